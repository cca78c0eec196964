output "next" {
  description = "What to type next."
  value = join("\n", [for name, host in var.hosts :
    "ssh -p ${host.port} ${host.user}@${host.address} -t bash -lc 'mt cluster status; mt nodes'"
  ])
}

output "servers" {
  value = module.bootstrap.servers
}
