output "next" {
  description = "What to type next: one of these prints the administrator's token, that of the host whose server led first."
  value = join("\n", [for name, host in var.hosts :
    "ssh -p ${host.port} ${host.user}@${host.address} sudo cat /var/lib/mentat/state/admin-token"
  ])
}

output "servers" {
  value = module.bootstrap.servers
}
