variable "project_id" {
  description = "Project of Google Cloud that everything is made in."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id is 6 to 30 lower-case letters, digits and hyphens, begins with a letter and does not end with a hyphen. It is not the project's name or number."
  }
}

variable "cluster" {
  description = "Name of the cluster; names of everything begin with it."
  type        = string
  default     = "mentat"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{3,18}[a-z0-9]$", var.cluster))
    error_message = "The cluster's name is 5 to 20 lower-case letters, digits and hyphens, begins with a letter and does not end with a hyphen."
  }
}

variable "host_count" {
  description = "How many hosts: 3 bear the loss of one, 5 of two."
  type        = number
  default     = 3

  validation {
    condition     = contains([1, 3, 5], var.host_count)
    error_message = "1, 3 or 5 hosts: an even number bears no more losses than one less."
  }
}

variable "region" {
  description = "Where the hosts are."
  type        = string
  default     = "europe-west1"
}

variable "zones" {
  description = "Zones of the region; hosts are spread over them in turn."
  type        = list(string)
  default     = ["europe-west1-b", "europe-west1-c", "europe-west1-d"]

  validation {
    condition     = length(var.zones) > 0 && length(distinct(var.zones)) == length(var.zones)
    error_message = "At least one zone, each once."
  }
}

variable "machine_type" {
  description = "8 vCPU and 32 GB, of a family that has nested virtualisation (n2, c2, n1; not e2, n2d or t2d)."
  type        = string
  default     = "n2-standard-8"

  validation {
    condition     = can(regex("^(n1|n2|c2|c3)-", var.machine_type))
    error_message = "Firecracker needs nested virtualisation, which the families n1, n2, c2 and c3 have."
  }
}

variable "image" {
  description = "Image of the boot disk: Ubuntu 24.04 LTS, or one of your own of Debian 12 with cloud-init, by which hosts are made."
  type        = string
  default     = "ubuntu-os-cloud/ubuntu-2404-lts-amd64"

  validation {
    condition     = !can(regex("debian-cloud|^(family/)?debian-", var.image)) && !can(regex("arm64", var.image))
    error_message = "Google's images of Debian have no cloud-init, by which hosts are made: take Ubuntu 24.04 LTS, or an image of your own. Mentat is for x86_64."
  }
}

variable "boot_disk_gb" {
  description = "Size of the boot disk, an SSD."
  type        = number
  default     = 150

  validation {
    condition     = var.boot_disk_gb >= 20 && var.boot_disk_gb == floor(var.boot_disk_gb)
    error_message = "The boot disk has a whole number of GB, at least 20: less has no room for images."
  }
}

variable "data_disk_gb" {
  description = "Size of the data disk, an SSD, mounted at /mnt/unikernel-volumes."
  type        = number
  default     = 512

  validation {
    condition     = var.data_disk_gb >= 10 && var.data_disk_gb == floor(var.data_disk_gb)
    error_message = "The data disk has a whole number of GB, at least 10."
  }
}

variable "subnet_cidr" {
  description = "The private subnet between the hosts."
  type        = string
  default     = "10.20.0.0/24"

  validation {
    condition     = can(cidrhost(var.subnet_cidr, 20)) && can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.)", var.subnet_cidr))
    error_message = "The subnet is a private range such as 10.20.0.0/24, of /27 or larger."
  }
  validation {
    condition     = try(cidrhost(var.subnet_cidr, 0) == split("/", var.subnet_cidr)[0], true)
    error_message = "The subnet begins with its first address: 10.20.0.0/24, and not 10.20.0.5/24."
  }
}

variable "reserved_cidrs" {
  description = "Ranges that are used inside the hosts, which the subnet must not overlap: Docker's bridges, and microVMs."
  type        = list(string)
  default     = ["172.17.0.0/16", "172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/13", "192.168.0.0/16", "10.64.0.0/12"]

  validation {
    condition     = alltrue([for range in var.reserved_cidrs : can(cidrnetmask(range))])
    error_message = "reserved_cidrs: each is an IPv4 range such as 172.17.0.0/16."
  }
}

variable "ssh_source_ranges" {
  description = "Who may reach SSH."
  type        = list(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = alltrue([for range in var.ssh_source_ranges : can(cidrnetmask(range))])
    error_message = "Each is an IPv4 range such as 203.0.113.0/24: the subnet has no IPv6."
  }
}

variable "api_source_ranges" {
  description = "Who may reach the Mentat API (4646) from outside, at the hosts' external addresses. Empty: nobody."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for range in var.api_source_ranges : can(cidrnetmask(range))])
    error_message = "Each is an IPv4 range such as 203.0.113.0/24: the subnet has no IPv6."
  }
}

variable "snapshot_days" {
  description = "How many days snapshots of the data disks are kept; one is made each day."
  type        = number
  default     = 7

  validation {
    condition     = var.snapshot_days >= 1 && var.snapshot_days == floor(var.snapshot_days)
    error_message = "Snapshots are kept a whole number of days, at least 1."
  }
}

variable "release_file" {
  description = "The release, dist/mentat-VERSION.tar.gz of `make release`."
  type        = string
  default     = "../dist/mentat-0.1.0.tar.gz"

  validation {
    condition     = fileexists(var.release_file)
    error_message = "There is no such file; `make release` makes it."
  }
}

variable "firecracker_url" {
  description = "Where the hosts get Firecracker v1.7.0: the .tgz of its release, at a place of your own. Empty: they do without."
  type        = string
  default     = ""

  validation {
    condition     = var.firecracker_url == "" || can(regex("^https://[^'\"\\s]+$", var.firecracker_url))
    error_message = "An https address."
  }
}

variable "firecracker_sha256" {
  description = "SHA-256 of that file."
  type        = string
  default     = ""
}

variable "guest_kernel_url" {
  description = "Where the hosts get the kernel that microVMs boot: an uncompressed vmlinux (docs/firecracker.md), at a place of your own. Empty: they have none, and run no microVMs."
  type        = string
  default     = ""

  validation {
    condition     = var.guest_kernel_url == "" || can(regex("^https://[^'\"\\s]+$", var.guest_kernel_url))
    error_message = "An https address."
  }
}

variable "guest_kernel_sha256" {
  description = "SHA-256 of that kernel."
  type        = string
  default     = ""
}

variable "deletion_protection" {
  description = "Hosts cannot be deleted by mistake."
  type        = bool
  default     = true
}
