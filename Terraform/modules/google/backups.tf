# The data disks, where backups of the control plane lie too, are snapshotted each day.

resource "google_compute_resource_policy" "daily" {
  project = var.project_id
  name    = "${var.cluster}-daily"
  region  = var.region

  snapshot_schedule_policy {
    schedule {
      daily_schedule {
        days_in_cycle = 1
        start_time    = "03:00"
      }
    }
    retention_policy {
      max_retention_days    = var.snapshot_days
      on_source_disk_delete = "KEEP_AUTO_SNAPSHOTS"
    }
    snapshot_properties {
      storage_locations = [var.region]
      guest_flush       = false
    }
  }
}

resource "google_compute_disk_resource_policy_attachment" "data" {
  for_each = var.hosts
  project  = var.project_id
  name     = google_compute_resource_policy.daily.name
  disk     = google_compute_disk.data[each.key].name
  zone     = local.zone[each.key]
}
