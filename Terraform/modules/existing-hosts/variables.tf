variable "cluster" {
  description = "Name of the cluster; only for people."
  type        = string
  default     = "mentat"
}

variable "hosts" {
  description = "Name to: address (where SSH reaches it), private_address (in the network that the hosts share), user and port of SSH. A user other than root needs sudo without a password."
  type = map(object({
    address         = string
    private_address = string
    user            = optional(string, "root")
    port            = optional(number, 22)
  }))
}

variable "ssh_private_key_file" {
  description = "Key for SSH. Only its path is in the state."
  type        = string
  default     = "~/.ssh/id_ed25519"
}

variable "release_file" {
  description = "The release, dist/mentat-VERSION.tar.gz of `make release`."
  type        = string

  validation {
    condition     = fileexists(var.release_file)
    error_message = "There is no such file; `make release` makes it."
  }
}

variable "fetch_firecracker" {
  description = "As in host-bootstrap."
  type        = string
  default     = "false"
}

variable "firecracker_sha256" {
  description = "As in host-bootstrap."
  type        = string
  default     = ""
}

variable "join_secret_file" {
  description = "File with the secret that all hosts of a new cluster share, at least 32 characters (openssl rand -hex 32). Good for a day, in which the cluster makes certificates of its own. Only its path is in the state."
  type        = string

  validation {
    condition     = fileexists(var.join_secret_file)
    error_message = "There is no such file; openssl rand -hex 32 makes what is in it."
  }
  validation {
    condition     = try(length(trimspace(file(var.join_secret_file))) >= 32, true)
    error_message = "The secret has at least 32 characters: openssl rand -hex 32 makes one."
  }
}

variable "fetch_guest_kernel" {
  description = "As in host-bootstrap."
  type        = string
  default     = "false"
}

variable "guest_kernel_sha256" {
  description = "As in host-bootstrap."
  type        = string
  default     = ""
}

variable "packages" {
  description = "As in host-bootstrap, which has a list of its own where this is null."
  type        = list(string)
  default     = null
}

variable "data_disk" {
  description = "As in host-bootstrap."
  type        = string
  default     = ""
}
