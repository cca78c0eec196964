output "external_addresses" {
  description = "Host to its address from outside."
  value       = { for name in local.names : name => google_compute_address.external[name].address }
}

output "ingress_address" {
  description = "Where names of services should point."
  value       = google_compute_address.ingress.address
}

output "zones" {
  description = "Host to its zone."
  value       = local.zone
}
