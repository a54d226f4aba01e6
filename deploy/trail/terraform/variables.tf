# The settings are those of ../cloudformation.yaml, by the same names in Terraform's spelling.

variable "name" {
  type        = string
  default     = "castellan-trail"
  description = "What the names of all resources begin with."

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9-]{0,31}$", var.name))
    error_message = "It is a letter, and up to 31 letters, digits and hyphens."
  }
}

variable "server_role" {
  type        = string
  default     = ""
  description = "The name of the role of this account that the server runs with, which is given the policy. Empty to attach it by hand."
}

variable "server_account_role" {
  type        = string
  default     = ""
  description = "The ARN of the role of a server in another account, which may assume a role here. Empty if the server is in this account."
}

variable "external_id" {
  type        = string
  default     = ""
  description = "What that server must say beside, to be given to castellan detect trail add --external-id. Required with server_account_role."
}

variable "trail_bucket" {
  type        = string
  default     = ""
  description = "The name of the trail's bucket, if its files are to be read too. The bucket must tell the queue of new objects; see docs/detect-trail.md."
}

variable "trail_prefix" {
  type        = string
  default     = "AWSLogs/"
  description = "Where in the bucket the files are, with a slash at its end."
}

variable "trail_key" {
  type        = string
  default     = ""
  description = "The ARN of the key by which the trail's files are encrypted, if it is one of your own."
}

variable "task_calls" {
  type        = string
  default     = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
  description = "Whether calls that only read are sent too. Without them less is found of credentials that are tried out."

  validation {
    condition     = contains(["ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS", "ENABLED"], var.task_calls)
    error_message = "It is ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS or ENABLED."
  }
}
