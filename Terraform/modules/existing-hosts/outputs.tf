locals {
  ssh   = { for name, host in var.hosts : name => "ssh -i ${var.ssh_private_key_file} -p ${host.port} ${host.user}@${host.address}" }
  first = keys(var.hosts)[0]
}

output "next" {
  description = "What to type next."
  value       = <<END
# look at the host, and at what it lacks:
${local.ssh[local.first]} sudo mt doctor
# the administrator's token, which is on the host whose server led first (the others have no such file), and there, the hash by
# which the cluster is known from elsewhere:
%{for ssh in values(local.ssh)~}
${ssh} 'sudo sh -c "cd /var/lib/mentat/state && cat admin-token && MENTAT_TOKEN=\$(cat admin-token) mt ca status"'
%{endfor~}
# from here, through SSH, which stays in the background; it asks for the token, and shows it nowhere:
${local.ssh[local.first]} -f -N -L 4646:${var.hosts[local.first].private_address}:4646
mt login --address https://127.0.0.1:4646 --ca-hash HASH
mt nodes
END
}

output "servers" {
  value = module.bootstrap.servers
}
