# The reference setup on Google Cloud: three hosts in a private subnet, joined into one cluster. What is made on the hosts is in
# modules/host-bootstrap, which knows no cloud; modules/existing-hosts is the same without one.

locals {
  names  = [for index in range(var.host_count) : "${var.cluster}-${index + 1}"]
  hosts  = { for index, name in local.names : name => cidrhost(var.subnet_cidr, 10 + index) }
  bucket = "${var.project_id}-${var.cluster}-release"
  object = "mentat-${filesha256(var.release_file)}.tar.gz"
  tls    = var.certificate_secret_prefix != ""

  secrets = local.tls ? [for index in range(var.host_count) : "${var.certificate_secret_prefix}-${index + 1}"] : []

  # A host asks its own machine's metadata who it is; no key of the cloud is on it.
  metadata = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
  token    = "token=$(curl -fsS -H 'Metadata-Flavor: Google' ${local.metadata} | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')"
  curl     = "curl -fsSL --retry 3 -H \"Authorization: Bearer $token\""

  fetch_release      = "${local.token} && ${local.curl} -o \"$1\" 'https://storage.googleapis.com/storage/v1/b/${local.bucket}/o/${local.object}?alt=media'"
  fetch_certificates = "${local.token} && ${local.curl} \"https://secretmanager.googleapis.com/v1/projects/${var.project_id}/secrets/${var.certificate_secret_prefix}-$MENTAT_SERVER_ID/versions/latest:access\" | sed -n 's/.*\"data\": *\"\\([^\"]*\\)\".*/\\1/p' | base64 -d | tar -x -C \"$1\" --no-same-owner"

  # Two ranges overlap when they are the same at the length of the shorter prefix.
  overlaps = [for range in var.reserved_cidrs : range if
    cidrhost("${split("/", range)[0]}/${min(split("/", range)[1], split("/", var.subnet_cidr)[1])}", 0) ==
  cidrhost("${split("/", var.subnet_cidr)[0]}/${min(split("/", range)[1], split("/", var.subnet_cidr)[1])}", 0)]
}

# What no single variable can say.
resource "terraform_data" "checks" {
  lifecycle {
    precondition {
      condition     = length(local.overlaps) == 0
      error_message = "subnet_cidr ${var.subnet_cidr} overlaps ${join(", ", local.overlaps)}, which is used inside the hosts; take another subnet, or change reserved_cidrs."
    }
    precondition {
      condition     = local.tls || length(var.api_source_ranges) == 0
      error_message = "api_source_ranges would open the API without TLS: set certificate_secret_prefix first."
    }
    precondition {
      condition     = (var.firecracker_url == "") == (var.firecracker_sha256 == "")
      error_message = "firecracker_url and firecracker_sha256 belong together."
    }
    precondition {
      condition     = alltrue([for zone in var.zones : startswith(zone, "${var.region}-")])
      error_message = "zones are zones of region ${var.region}."
    }
  }
}

module "bootstrap" {
  source             = "./modules/host-bootstrap"
  cluster            = var.cluster
  hosts              = local.hosts
  fetch_release      = local.fetch_release
  release_sha256     = filesha256(var.release_file)
  fetch_firecracker  = var.firecracker_url == "" ? "false" : "curl -fsSL --retry 3 -o \"$1\" '${var.firecracker_url}'"
  firecracker_sha256 = var.firecracker_sha256
  fetch_certificates = local.tls ? local.fetch_certificates : ""
  packages           = ["docker.io", "apparmor", "haproxy", "chrony", "curl"]
  data_disk          = "/dev/disk/by-id/google-mentat-data"
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
  certificate_secrets = local.secrets
  deletion_protection = var.deletion_protection
  depends_on          = [terraform_data.checks]
}
