output "scripts" {
  description = "Host to the script that makes it one of the cluster; it may be run again."
  value       = local.scripts
}

output "cloud_init" {
  description = "Host to the cloud-init document that runs the script."
  value = { for name, script in local.scripts : name => templatefile("${path.module}/templates/cloud-init.yaml.tftpl", {
    cluster       = var.cluster
    name          = name
    script_base64 = base64encode(script)
  }) }
}

output "servers" {
  description = "APIs of the servers, host:port."
  value       = local.servers
}

output "tls" {
  description = "Whether the hosts speak TLS."
  value       = local.tls
}
