# The same cluster on hosts that exist already: they need an address, SSH and Debian 12 or Ubuntu 24.04; no cloud.

terraform {
  required_version = ">= 1.6"
}

module "bootstrap" {
  source             = "../host-bootstrap"
  cluster            = var.cluster
  hosts              = { for name, host in var.hosts : name => host.private_address }
  fetch_release      = "cp /var/tmp/mentat-release.tar.gz \"$1\""
  release_sha256     = filesha256(var.release_file)
  fetch_firecracker  = var.fetch_firecracker
  firecracker_sha256 = var.firecracker_sha256
  fetch_certificates = var.fetch_certificates
  packages           = var.packages
  data_disk          = var.data_disk
}

# Copies and runs the script on each host; all at once, since each waits for the others. Again when script or release change.
resource "terraform_data" "host" {
  for_each         = var.hosts
  triggers_replace = [sha256(module.bootstrap.scripts[each.key])]

  connection {
    type        = "ssh"
    host        = each.value.address
    port        = each.value.port
    user        = each.value.user
    private_key = file(pathexpand(var.ssh_private_key_file))
    timeout     = "5m"
  }

  provisioner "file" {
    source      = var.release_file
    destination = "/var/tmp/mentat-release.tar.gz"
  }

  provisioner "file" {
    content     = module.bootstrap.scripts[each.key]
    destination = "/var/tmp/mentat-bootstrap"
  }

  provisioner "remote-exec" {
    inline = [
      "if [ \"$(id -u)\" -eq 0 ]; then sh /var/tmp/mentat-bootstrap; else sudo -n sh /var/tmp/mentat-bootstrap; fi",
    ]
  }
}
