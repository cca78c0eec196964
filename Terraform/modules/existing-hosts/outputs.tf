locals {
  first = values(var.hosts)[0]
}

output "next" {
  description = "What to type next."
  value       = <<-END
    # look at the host, and at what it lacks:
    ssh -p ${local.first.port} ${local.first.user}@${local.first.address} sudo mt doctor
    # the administrator's token, which is on the host whose server led first (the others have no such file), and there, the hash by
    # which the cluster is known from elsewhere:
%{for name, host in var.hosts~}
    ssh -p ${host.port} ${host.user}@${host.address} 'sudo sh -c "cd /var/lib/mentat/state && cat admin-token && MENTAT_TOKEN=\$(cat admin-token) mt ca status"'
%{endfor~}
    # from here, through SSH; it asks for the token, and shows it nowhere:
    ssh -p ${local.first.port} ${local.first.user}@${local.first.address} -N -L 4646:${local.first.private_address}:4646 &
    mt login --address https://127.0.0.1:4646 --ca-hash HASH
    mt nodes
  END
}

output "servers" {
  value = module.bootstrap.servers
}
