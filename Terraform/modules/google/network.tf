# A private subnet between the hosts, and what may come in from outside: 22, 80 and 443, and 4646 for whom it is opened.

resource "google_compute_network" "mentat" {
  project                 = var.project_id
  name                    = var.cluster
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "hosts" {
  project                  = var.project_id
  name                     = "${var.cluster}-hosts"
  region                   = var.region
  network                  = google_compute_network.mentat.id
  ip_cidr_range            = var.subnet_cidr
  private_ip_google_access = true
}

locals {
  tag = "${var.cluster}-host"
}

resource "google_compute_firewall" "ssh" {
  count         = length(var.ssh_source_ranges) > 0 ? 1 : 0
  project       = var.project_id
  name          = "${var.cluster}-ssh"
  description   = "SSH, external"
  network       = google_compute_network.mentat.id
  direction     = "INGRESS"
  source_ranges = var.ssh_source_ranges
  target_tags   = [local.tag]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}

resource "google_compute_firewall" "ingress" {
  project       = var.project_id
  name          = "${var.cluster}-ingress"
  description   = "Ingress, external; the load balancer's health checks come this way too"
  network       = google_compute_network.mentat.id
  direction     = "INGRESS"
  source_ranges = ["0.0.0.0/0"]
  target_tags   = [local.tag]

  allow {
    protocol = "tcp"
    ports    = ["80", "443"]
  }
}

resource "google_compute_firewall" "api" {
  count         = length(var.api_source_ranges) > 0 ? 1 : 0
  project       = var.project_id
  name          = "${var.cluster}-api"
  description   = "Mentat API, external or VPN"
  network       = google_compute_network.mentat.id
  direction     = "INGRESS"
  source_ranges = var.api_source_ranges
  target_tags   = [local.tag]

  allow {
    protocol = "tcp"
    ports    = ["4646"]
  }
}

resource "google_compute_firewall" "internal" {
  project     = var.project_id
  name        = "${var.cluster}-internal"
  description = "Between the hosts: API, agent API, Raft, ports of tasks, and the network of microVMs"
  network     = google_compute_network.mentat.id
  direction   = "INGRESS"
  source_tags = [local.tag]
  target_tags = [local.tag]

  allow {
    protocol = "tcp"
    ports    = ["4646", "4647", "4648", "20000-32000"]
  }
  allow {
    protocol = "udp"
    ports    = ["4789", "20000-32000"]
  }
  allow {
    protocol = "icmp"
  }
}
