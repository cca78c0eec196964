# The same cluster on hosts that exist already: they need an address, SSH and Debian 12 or Ubuntu 24.04; no cloud.

terraform {
  required_version = ">= 1.6"
}

module "bootstrap" {
  source              = "../host-bootstrap"
  cluster             = var.cluster
  hosts               = { for name, host in var.hosts : name => host.private_address }
  fetch_release       = "die 'the release was not copied: terraform apply'"
  release_sha256      = filesha256(var.release_file)
  fetch_firecracker   = var.fetch_firecracker
  firecracker_sha256  = var.firecracker_sha256
  fetch_guest_kernel  = var.fetch_guest_kernel
  guest_kernel_sha256 = var.guest_kernel_sha256
  fetch_join_secret   = "mv join-secret.given \"$1\" || die 'the secret was not copied: terraform apply'"
  api_names           = { for name, host in var.hosts : name => [host.address] if host.address != host.private_address }
  packages            = var.packages
  data_disk           = var.data_disk
}

# Copies release and script, and runs the script on each host; all at once, since each waits for the others. Again when script or
# release change. Nothing that root runs or reads lies where other users of the host may write.
resource "terraform_data" "host" {
  for_each         = var.hosts
  triggers_replace = [sha256(module.bootstrap.scripts[each.key])]

  # What has no sum is not installed: better told than left out.
  lifecycle {
    precondition {
      condition     = var.fetch_firecracker == "false" || var.firecracker_sha256 != ""
      error_message = "fetch_firecracker needs firecracker_sha256."
    }
    precondition {
      condition     = var.fetch_guest_kernel == "false" || var.guest_kernel_sha256 != ""
      error_message = "fetch_guest_kernel needs guest_kernel_sha256."
    }
  }

  connection {
    type        = "ssh"
    host        = each.value.address
    port        = each.value.port
    user        = each.value.user
    private_key = file(pathexpand(var.ssh_private_key_file))
    script_path = "./.mentat-terraform-%RAND%.sh"
    timeout     = "5m"
  }

  provisioner "remote-exec" {
    inline = ["install -d -m 0700 .mentat-install"]
  }

  provisioner "file" {
    source      = var.release_file
    destination = ".mentat-install/release.tar.gz"
  }

  provisioner "file" {
    source      = var.join_secret_file
    destination = ".mentat-install/join-secret"
  }

  provisioner "file" {
    content     = module.bootstrap.scripts[each.key]
    destination = ".mentat-install/bootstrap"
  }

  provisioner "remote-exec" {
    inline = [
      "set -eu",
      "sudo=; [ \"$(id -u)\" -eq 0 ] || sudo='sudo -n'",
      "$sudo install -d -m 0700 /var/lib/mentat-bootstrap",
      "$sudo install -d /usr/local/sbin",
      "$sudo install -m 0600 .mentat-install/release.tar.gz /var/lib/mentat-bootstrap/release.tar.gz",
      "$sudo install -m 0600 .mentat-install/join-secret /var/lib/mentat-bootstrap/join-secret.given",
      "$sudo install -m 0700 -o root -g root .mentat-install/bootstrap /usr/local/sbin/mentat-bootstrap",
      "rm -rf .mentat-install",
      "$sudo /usr/local/sbin/mentat-bootstrap",
      "$sudo rm -f /var/lib/mentat-bootstrap/join-secret.given",
    ]
  }
}
