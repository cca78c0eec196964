# The hosts with their disks.

locals {
  names = sort(keys(var.hosts))
  zone  = { for index, name in local.names : name => var.zones[index % length(var.zones)] }
}

resource "google_compute_address" "internal" {
  for_each     = var.hosts
  project      = var.project_id
  name         = "${each.key}-internal"
  region       = var.region
  subnetwork   = google_compute_subnetwork.hosts.id
  address_type = "INTERNAL"
  address      = each.value
}

resource "google_compute_address" "external" {
  for_each     = var.hosts
  project      = var.project_id
  name         = "${each.key}-external"
  region       = var.region
  address_type = "EXTERNAL"
}

resource "google_compute_disk" "data" {
  for_each = var.hosts
  project  = var.project_id
  name     = "${each.key}-data"
  zone     = local.zone[each.key]
  type     = "pd-ssd"
  size     = var.data_disk_gb

  # Volumes of services outlive their host.
  lifecycle {
    prevent_destroy = true
  }
}

resource "google_compute_instance" "host" {
  for_each            = var.hosts
  project             = var.project_id
  name                = each.key
  zone                = local.zone[each.key]
  machine_type        = var.machine_type
  tags                = [local.tag]
  can_ip_forward      = true
  deletion_protection = var.deletion_protection

  # KVM for Firecracker, which of n1 not every processor has.
  min_cpu_platform = startswith(var.machine_type, "n1-") ? "Intel Haswell" : null
  advanced_machine_features {
    enable_nested_virtualization = true
  }

  boot_disk {
    initialize_params {
      image = var.image
      size  = var.boot_disk_gb
      type  = "pd-ssd"
    }
  }

  attached_disk {
    source      = google_compute_disk.data[each.key].id
    device_name = "mentat-data"
  }

  network_interface {
    subnetwork = google_compute_subnetwork.hosts.id
    network_ip = google_compute_address.internal[each.key].address
    access_config {
      nat_ip = google_compute_address.external[each.key].address
    }
  }

  metadata = {
    user-data      = var.cloud_init[each.key]
    enable-oslogin = "TRUE"
  }

  service_account {
    email  = google_service_account.host.email
    scopes = ["cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  # A newer release comes by scripts/publish.sh, a newer image host by host: neither replaces hosts that run.
  lifecycle {
    ignore_changes = [metadata["user-data"], boot_disk[0].initialize_params[0].image]
  }

  depends_on = [google_storage_bucket_iam_member.release, google_secret_manager_secret_iam_member.join]
}
