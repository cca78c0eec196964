output "hosts" {
  description = "Host to its addresses."
  value       = { for name, address in local.hosts : name => { private = address, external = module.google.external_addresses[name] } }
}

output "ingress_address" {
  description = "Where names of services should point."
  value       = module.google.ingress_address
}

output "next" {
  description = "What to type next."
  value       = <<-END
    # wait until it says "cluster ready", about five minutes after apply:
    gcloud compute instances tail-serial-port-output ${local.names[0]} --zone ${module.google.zones[local.names[0]]} --project ${var.project_id}
    # look, and take the administrator's token, which is on the host whose server led first (the others have no such file):
    gcloud compute ssh ${local.names[0]} --zone ${module.google.zones[local.names[0]]} --project ${var.project_id} --command "sudo mt doctor; sudo cat /var/lib/mentat/state/admin-token"
    # HASH of the next line is what this prints there:
    sudo mt --token TOKEN ca status
    # use it from here, through SSH:
    gcloud compute ssh ${local.names[0]} --zone ${module.google.zones[local.names[0]]} --project ${var.project_id} -- -N -L 4646:${local.hosts[local.names[0]]}:4646 &
    mt login --address https://127.0.0.1:4646 --ca-hash HASH
    mt nodes
  END
}
