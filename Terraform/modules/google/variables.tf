variable "project_id" {
  type = string
}

variable "cluster" {
  type = string
}

variable "region" {
  type = string
}

variable "zones" {
  description = "Zones of the region; hosts are spread over them in turn."
  type        = list(string)
}

variable "hosts" {
  description = "Name to address in the private subnet."
  type        = map(string)
}

variable "cloud_init" {
  description = "Name to the cloud-init document of the host."
  type        = map(string)
}

variable "subnet_cidr" {
  type = string
}

variable "machine_type" {
  type = string
}

variable "image" {
  type = string
}

variable "boot_disk_gb" {
  type = number
}

variable "data_disk_gb" {
  type = number
}

variable "ssh_source_ranges" {
  type = list(string)
}

variable "api_source_ranges" {
  type = list(string)
}

variable "snapshot_days" {
  type = number
}

variable "release_file" {
  type = string
}

variable "release_object" {
  type = string
}

variable "bucket" {
  type = string
}

variable "join_secret" {
  description = "Name of the secret in Secret Manager that the hosts share."
  type        = string
}

variable "deletion_protection" {
  type = bool
}
