# What makes a fresh host one of the cluster, for any cloud and for none: a script, and a cloud-init document that runs it.

terraform {
  required_version = ">= 1.6"
}

locals {
  names   = sort(keys(var.hosts))
  servers = [for name in local.names : "${var.hosts[name]}:4646"]
  tls     = var.fetch_join_secret != ""

  firecracker_version = "1.7.0"

  scripts = { for index, name in local.names : name => templatefile("${path.module}/templates/bootstrap.sh.tftpl", {
    cluster             = var.cluster
    name                = name
    address             = var.hosts[name]
    servers             = jsonencode(local.servers)
    expect              = length(local.names)
    server_id           = index + 1
    packages            = join(" ", var.packages)
    fetch_release       = var.fetch_release
    release_sha256      = var.release_sha256
    fetch_firecracker   = var.fetch_firecracker
    firecracker_sha256  = var.firecracker_sha256
    firecracker_version = local.firecracker_version
    fetch_guest_kernel  = var.fetch_guest_kernel
    guest_kernel_sha256 = var.guest_kernel_sha256
    fetch_join_secret   = local.tls ? var.fetch_join_secret : "false"
    data_disk           = var.data_disk
    tls                 = local.tls
    names               = local.tls ? "tls_names: ${jsonencode(lookup(var.api_names, name, []))}" : ""
    # Without certificates nothing but the private network keeps strangers out, which has to be said.
    access = local.tls ? "tls: auto\njoin_token_file: /etc/mentat/join-token" : "bind: ${var.hosts[name]}\nallow_insecure: true"
  }) }
}
