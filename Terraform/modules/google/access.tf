# The hosts' own account: it reads the release, and the cluster's certificates where there are any. Nothing else.

resource "google_service_account" "host" {
  project      = var.project_id
  account_id   = "${var.cluster}-host"
  display_name = "Hosts of the Mentat cluster ${var.cluster}"
}

resource "google_storage_bucket" "release" {
  project                     = var.project_id
  name                        = var.bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
}

resource "google_storage_bucket_object" "release" {
  name   = var.release_object
  bucket = google_storage_bucket.release.name
  source = var.release_file
}

resource "google_storage_bucket_iam_member" "release" {
  bucket = google_storage_bucket.release.name
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${google_service_account.host.email}"
}

# The secrets are made by hand, so that what is in them is never in Terraform's state.
resource "google_secret_manager_secret_iam_member" "certificates" {
  for_each  = toset(var.certificate_secrets)
  project   = var.project_id
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${google_service_account.host.email}"
}
