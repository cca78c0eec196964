variable "cluster" {
  description = "Name of the cluster; only for people."
  type        = string
}

variable "hosts" {
  description = "The hosts: name to address in the network that they share. The first ones, by name, found the cluster."
  type        = map(string)

  validation {
    condition     = contains([1, 3, 5, 7], length(var.hosts))
    error_message = "A cluster has 1, 3, 5 or 7 servers: an even number bears no more losses than one less."
  }
  validation {
    condition     = alltrue([for name in keys(var.hosts) : can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", name))])
    error_message = "Names of hosts are lower-case letters, digits and hyphens, at most 63."
  }
  validation {
    condition     = alltrue([for address in values(var.hosts) : can(cidrhost("${address}/32", 0))])
    error_message = "Each host needs an IPv4 address in the private network."
  }
  validation {
    condition     = length(distinct(values(var.hosts))) == length(var.hosts)
    error_message = "Two hosts have the same address."
  }
}

variable "fetch_release" {
  description = "Shell command that writes the release (dist/mentat-VERSION.tar.gz) to the file $1 of a host."
  type        = string
}

variable "release_sha256" {
  description = "SHA-256 of the release."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.release_sha256))
    error_message = "The SHA-256 of the release is 64 hexadecimal digits, as in dist/SHA256SUMS."
  }
}

variable "fetch_firecracker" {
  description = "Shell command that writes Firecracker's release (a .tgz with firecracker and jailer) to the file $1. Left out: the hosts do without, or have it."
  type        = string
  default     = "false"
}

variable "firecracker_sha256" {
  description = "SHA-256 of Firecracker's release."
  type        = string
  default     = ""

  validation {
    condition     = var.firecracker_sha256 == "" || can(regex("^[0-9a-f]{64}$", var.firecracker_sha256))
    error_message = "The SHA-256 of Firecracker's release is 64 hexadecimal digits, or nothing."
  }
}

variable "fetch_guest_kernel" {
  description = "Shell command that writes the kernel that microVMs boot (an uncompressed vmlinux, docs/firecracker.md) to the file $1. Left out: the hosts have none, or have it."
  type        = string
  default     = "false"
}

variable "guest_kernel_sha256" {
  description = "SHA-256 of that kernel."
  type        = string
  default     = ""

  validation {
    condition     = var.guest_kernel_sha256 == "" || can(regex("^[0-9a-f]{64}$", var.guest_kernel_sha256))
    error_message = "The SHA-256 of the guests' kernel is 64 hexadecimal digits, or nothing."
  }
}

variable "fetch_join_secret" {
  description = "Shell command that writes the secret that all hosts of a new cluster share, at least 32 characters (openssl rand -hex 32), to the file $1; $MENTAT_SERVER_ID says for which server. It is good for a day, in which the cluster gives its servers and agents certificates of its own. The hosts fetch it themselves, so that it is not in Terraform's state. Left out: the hosts speak without TLS in their private network."
  type        = string
  default     = ""
}

variable "api_names" {
  description = "Host to further names and addresses under which its API is reached, for the certificate of its server: from outside, say."
  type        = map(list(string))
  default     = {}
}

variable "packages" {
  description = "Debian or Ubuntu packages that each host needs besides: for containers, for ingress and its certificates, for images, volumes and networks of microVMs, for the clock, and for what is fetched."
  type        = list(string)
  nullable    = false
  default     = ["docker.io", "apparmor", "haproxy", "uacme", "squashfs-tools", "e2fsprogs", "nftables", "chrony", "curl"]
}

variable "data_disk" {
  description = "Device of the data disk; an empty one is formatted. Empty: /mnt/unikernel-volumes is what the host has there."
  type        = string
  default     = ""

  validation {
    condition     = var.data_disk == "" || can(regex("^/dev/[A-Za-z0-9/_.:-]+$", var.data_disk))
    error_message = "The data disk is a path below /dev."
  }
}
