locals {
  at = { for name in local.names : name => "${name} --zone ${module.google.zones[name]} --project ${var.project_id}" }
}

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
  value       = <<END
# wait until it says "cluster ready", about five minutes after apply:
gcloud compute instances tail-serial-port-output ${local.at[local.names[0]]}
# what the host lacks:
gcloud compute ssh ${local.at[local.names[0]]} --command "sudo mt doctor"
# the administrator's token, and the hash by which the cluster is known from elsewhere, of the host whose server led first (the
# others have no such file):
%{for name in local.names~}
gcloud compute ssh ${local.at[name]} --command 'sudo sh -c "cd /var/lib/mentat/state && cat admin-token && MENTAT_TOKEN=\$(cat admin-token) mt ca status"'
%{endfor~}
# use it from here, with the mt of ../dist, through SSH, which stays in the background; it asks for the token, and shows it nowhere:
gcloud compute ssh ${local.at[local.names[0]]} -- -f -N -L 4646:${local.hosts[local.names[0]]}:4646
../dist/mt login --address https://127.0.0.1:4646 --ca-hash HASH
%{if length(var.api_source_ranges) > 0~}
# or, from one of api_source_ranges, without that:
../dist/mt login --address ${join(",", [for name in local.names : "https://${module.google.external_addresses[name]}:4646"])} --ca-hash HASH
%{endif~}
../dist/mt nodes
END
}
