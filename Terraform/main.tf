# The reference setup on Google Cloud: three hosts in a private subnet, joined into one cluster. What is made on the hosts is in
# modules/host-bootstrap, which knows no cloud; modules/existing-hosts is the same without one.

locals {
  names  = [for index in range(var.host_count) : "${var.cluster}-${index + 1}"]
  hosts  = { for index, name in local.names : name => cidrhost(var.subnet_cidr, 10 + index) }
  bucket = "${var.project_id}-${var.cluster}-release"
  object = "mentat-${filesha256(var.release_file)}.tar.gz"
  secret = "${var.cluster}-join"

  # A host asks its own machine's metadata who it is; no key of the cloud is on it.
  metadata = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
  token    = "token=$(curl -fsS -H 'Metadata-Flavor: Google' ${local.metadata} | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')"
  curl     = "curl -fsSL --retry 3 -H \"Authorization: Bearer $token\""

  fetch_release = "${local.token} && ${local.curl} -o \"$1\" 'https://storage.googleapis.com/storage/v1/b/${local.bucket}/o/${local.object}?alt=media'"
  secret_url    = "https://secretmanager.googleapis.com/v1/projects/${var.project_id}/secrets/${local.secret}"

  # The first host makes the secret that all share, and puts it where the others find it: nobody else ever has it.
  fetch_join_secret = <<-END
    ${local.token} || return 1
    said=$(curl -sS --retry 3 -w '%%{http_code}' -o "$1.json" -H "Authorization: Bearer $token" '${local.secret_url}/versions/latest:access') || return 1
    if [ "$said" = 404 ] && [ "$MENTAT_SERVER_ID" = 1 ]; then
        head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' | base64 -w 0 | sed 's/.*/{"payload": {"data": "&"}}/' |
            ${local.curl} -o /dev/null -H 'Content-Type: application/json' --data-binary @- '${local.secret_url}:addVersion'
        return 1
    fi
    sed -n 's/.*"data": *"\([^"]*\)".*/\1/p' "$1.json" | base64 -d >"$1"
    rm -f "$1.json"
  END

  # Two ranges overlap when they are the same at the length of the shorter prefix. What is no range is told by the variables.
  overlaps = [for range in var.reserved_cidrs : range if try(
    cidrhost("${split("/", range)[0]}/${min(split("/", range)[1], split("/", var.subnet_cidr)[1])}", 0) ==
  cidrhost("${split("/", var.subnet_cidr)[0]}/${min(split("/", range)[1], split("/", var.subnet_cidr)[1])}", 0), false)]
}

# What no single variable can say.
resource "terraform_data" "checks" {
  lifecycle {
    precondition {
      condition     = length(local.overlaps) == 0
      error_message = "subnet_cidr ${var.subnet_cidr} overlaps ${join(", ", local.overlaps)}, which is used inside the hosts; take another subnet, or change reserved_cidrs."
    }
    precondition {
      condition     = (var.firecracker_url == "") == (var.firecracker_sha256 == "")
      error_message = "firecracker_url and firecracker_sha256 belong together."
    }
    precondition {
      condition     = (var.guest_kernel_url == "") == (var.guest_kernel_sha256 == "")
      error_message = "guest_kernel_url and guest_kernel_sha256 belong together."
    }
    precondition {
      condition     = alltrue([for zone in var.zones : startswith(zone, "${var.region}-")])
      error_message = "zones are zones of region ${var.region}, which ${join(", ", var.zones)} are not all: give region and zones together."
    }
  }
}

module "bootstrap" {
  source              = "./modules/host-bootstrap"
  cluster             = var.cluster
  hosts               = local.hosts
  fetch_release       = local.fetch_release
  release_sha256      = filesha256(var.release_file)
  fetch_firecracker   = var.firecracker_url == "" ? "false" : "curl -fsSL --retry 3 -o \"$1\" '${var.firecracker_url}'"
  firecracker_sha256  = var.firecracker_sha256
  fetch_guest_kernel  = var.guest_kernel_url == "" ? "false" : "curl -fsSL --retry 3 -o \"$1\" '${var.guest_kernel_url}'"
  guest_kernel_sha256 = var.guest_kernel_sha256
  fetch_join_secret   = local.fetch_join_secret
  api_names           = { for name, address in module.google.external_addresses : name => [address] }
  data_disk           = "/dev/disk/by-id/google-mentat-data"
}

module "google" {
  source              = "./modules/google"
  project_id          = var.project_id
  cluster             = var.cluster
  region              = var.region
  zones               = var.zones
  hosts               = local.hosts
  cloud_init          = module.bootstrap.cloud_init
  subnet_cidr         = var.subnet_cidr
  machine_type        = var.machine_type
  image               = var.image
  boot_disk_gb        = var.boot_disk_gb
  data_disk_gb        = var.data_disk_gb
  ssh_source_ranges   = var.ssh_source_ranges
  api_source_ranges   = var.api_source_ranges
  snapshot_days       = var.snapshot_days
  release_file        = var.release_file
  release_object      = local.object
  bucket              = local.bucket
  join_secret         = local.secret
  deletion_protection = var.deletion_protection
  depends_on          = [terraform_data.checks]
}
