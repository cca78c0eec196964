output "next" {
  description = "What to type next: the administrator's token, and how to log in, is what one of these prints, the one whose server led first."
  value = join("\n", [for name, host in var.hosts :
    "ssh -p ${host.port} ${host.user}@${host.address} sudo mt cluster init"
  ])
}

output "servers" {
  value = module.bootstrap.servers
}
