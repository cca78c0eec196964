# One address for the ingress of all hosts: a load balancer that passes connections on, to hosts that answer on port 80.

resource "google_compute_address" "ingress" {
  project      = var.project_id
  name         = "${var.cluster}-ingress"
  region       = var.region
  address_type = "EXTERNAL"
}

resource "google_compute_region_health_check" "ingress" {
  project            = var.project_id
  name               = "${var.cluster}-ingress"
  region             = var.region
  check_interval_sec = 5
  timeout_sec        = 2

  tcp_health_check {
    port = 80
  }
}

resource "google_compute_instance_group" "hosts" {
  for_each  = toset(values(local.zone))
  project   = var.project_id
  name      = "${var.cluster}-${each.key}"
  zone      = each.key
  network   = google_compute_network.mentat.id
  instances = [for name in local.names : google_compute_instance.host[name].self_link if local.zone[name] == each.key]
}

resource "google_compute_region_backend_service" "ingress" {
  project               = var.project_id
  name                  = "${var.cluster}-ingress"
  region                = var.region
  protocol              = "TCP"
  load_balancing_scheme = "EXTERNAL"
  health_checks         = [google_compute_region_health_check.ingress.id]

  dynamic "backend" {
    for_each = google_compute_instance_group.hosts
    content {
      group          = backend.value.id
      balancing_mode = "CONNECTION"
    }
  }
}

resource "google_compute_forwarding_rule" "ingress" {
  project               = var.project_id
  name                  = "${var.cluster}-ingress"
  region                = var.region
  ip_address            = google_compute_address.ingress.address
  ip_protocol           = "TCP"
  ports                 = ["80", "443"]
  load_balancing_scheme = "EXTERNAL"
  backend_service       = google_compute_region_backend_service.ingress.id
}
