# The hosts' own account: it reads the release, and the secret by which the hosts of a new cluster know each other, which the first
# host makes. Nothing else.

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

# Empty as Terraform makes it, so that what comes in is never in Terraform's state. It is of use for the cluster's first day.
resource "google_secret_manager_secret" "join" {
  project   = var.project_id
  secret_id = var.join_secret

  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_iam_member" "join" {
  for_each  = toset(["roles/secretmanager.secretAccessor", "roles/secretmanager.secretVersionAdder"])
  project   = var.project_id
  secret_id = google_secret_manager_secret.join.secret_id
  role      = each.value
  member    = "serviceAccount:${google_service_account.host.email}"
}
