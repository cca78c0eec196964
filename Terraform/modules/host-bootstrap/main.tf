# What makes a fresh host one of the cluster, for any cloud and for none: a script, and a cloud-init document that runs it.

terraform {
  required_version = ">= 1.6"
}

locals {
  names   = sort(keys(var.hosts))
  servers = [for name in local.names : "${var.hosts[name]}:4646"]
  tls     = var.fetch_certificates != ""

  # Without certificates nothing but the private network keeps strangers out, which has to be said.
  access = {
    server = local.tls ? "tls_cert: /etc/mentat/server.pem\ntls_key: /etc/mentat/server.key\ntls_ca: /etc/mentat/ca.pem" : "allow_insecure: true"
    agent  = local.tls ? "tls_cert: /etc/mentat/agent.pem\ntls_key: /etc/mentat/agent.key\ntls_ca: /etc/mentat/ca.pem" : "allow_insecure: true"
  }

  scripts = { for index, name in local.names : name => templatefile("${path.module}/templates/bootstrap.sh.tftpl", {
    cluster            = var.cluster
    name               = name
    address            = var.hosts[name]
    servers            = jsonencode(local.servers)
    expect             = length(local.names)
    server_id          = index + 1
    packages           = join(" ", var.packages)
    fetch_release      = var.fetch_release
    release_sha256     = var.release_sha256
    fetch_firecracker  = var.fetch_firecracker
    firecracker_sha256 = var.firecracker_sha256
    fetch_certificates = local.tls ? "MENTAT_SERVER_ID=${index + 1}\n    ${var.fetch_certificates}" : "false"
    data_disk          = var.data_disk
    tls                = local.tls
    scheme             = local.tls ? "https" : "http"
    mt_options         = local.tls ? "--ca /etc/mentat/ca.pem --cert /etc/mentat/agent.pem --key /etc/mentat/agent.key" : ""
    server_access      = local.access.server
    agent_access       = local.access.agent
  }) }
}
