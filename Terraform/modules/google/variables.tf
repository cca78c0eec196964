variable "project_id" {
  description = "Project of Google Cloud."
  type        = string
}

variable "cluster" {
  description = "Name of the cluster; names of everything begin with it."
  type        = string
}

variable "region" {
  description = "Where the hosts are."
  type        = string
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
  description = "The private subnet between the hosts."
  type        = string
}

variable "machine_type" {
  description = "What the hosts are; of a family that has nested virtualisation."
  type        = string
}

variable "image" {
  description = "Image of the boot disks."
  type        = string
}

variable "boot_disk_gb" {
  description = "Size of each boot disk, an SSD."
  type        = number
}

variable "data_disk_gb" {
  description = "Size of each data disk, an SSD."
  type        = number
}

variable "ssh_source_ranges" {
  description = "Ranges from which SSH is reached."
  type        = list(string)
}

variable "api_source_ranges" {
  description = "Ranges from which the Mentat API (4646) is reached from outside."
  type        = list(string)
}

variable "snapshot_days" {
  description = "How many days the daily snapshots of the data disks are kept."
  type        = number
}

variable "release_file" {
  description = "File of the release, which is put into the bucket."
  type        = string
}

variable "release_object" {
  description = "Its name in the bucket."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket, which the hosts may read."
  type        = string
}

variable "join_secret" {
  description = "Name of the secret in Secret Manager that the hosts share."
  type        = string
}

variable "deletion_protection" {
  description = "Hosts cannot be deleted by mistake."
  type        = bool
}
