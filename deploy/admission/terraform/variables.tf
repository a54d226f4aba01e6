# The settings are those of ../cloudformation.yaml, by the same names in Terraform's spelling.

variable "name" {
  type        = string
  default     = "castellan-admission"
  description = "What the names of all resources begin with."

  # The names of roles have 64 letters at most, and end with what they are for and the region.
  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9-]{0,31}$", var.name))
    error_message = "It is a letter, and up to 31 letters, digits and hyphens."
  }
}

variable "code_bucket" {
  type        = string
  description = "The bucket with the function's package, castellan-lambda-arm64.zip or castellan-lambda-amd64.zip."
}

variable "code_key" {
  type        = string
  description = "The key of the package in the bucket. A new package needs a new key: Terraform does not look into it."
}

variable "architecture" {
  type        = string
  default     = "arm64"
  description = "Of the package: arm64, or x86_64 for amd64."

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "The architecture is arm64 or x86_64."
  }
}

variable "on_error" {
  type        = string
  default     = "deny"
  description = "What the doors answer when nobody could decide."

  validation {
    condition     = contains(["deny", "allow"], var.on_error)
    error_message = "It is deny or allow."
  }
}

variable "server" {
  type        = string
  default     = ""
  description = "The address of Castellan's server, https://host:port. Empty to decide alone, by a bundle."
}

variable "server_fingerprint" {
  type        = string
  default     = ""
  description = "The fingerprint of the server's certificate authority, as the server prints it at its start."
}

variable "token_secret" {
  type        = string
  default     = ""
  description = "The ARN of the secret in Secrets Manager that has an API token with the scope admission:decide."
}

variable "token_parameter" {
  type        = string
  default     = ""
  description = "In place of token_secret, the ARN of a SecureString parameter of Systems Manager with the token."
}

variable "bundle_bucket" {
  type        = string
  default     = ""
  description = "The bucket with the policy bundle, in this region. Empty to ask the server."
}

variable "bundle_path" {
  type        = string
  default     = "castellan.bundle"
  description = "The key of the policy bundle in the bucket."
}

variable "bundle_public_key" {
  type        = string
  default     = ""
  description = "The public key of whoever signs bundles, in PEM."
}

variable "bundle_min_version" {
  type        = number
  default     = 0
  description = "Older bundles are refused, whoever signed them."
}

variable "read_roles" {
  type        = bool
  default     = true
  description = "Whether IAM is asked what the roles of tasks permit."
}

variable "repositories" {
  type        = string
  default     = "*"
  description = "The repositories of ECR whose tags may be looked up, as in their ARNs."
}

variable "cloudformation_hook" {
  type        = string
  default     = "off"
  description = "Whether CloudFormation and Cloud Control ask before task definitions, services and repositories are made: off, warn or fail."

  validation {
    condition     = contains(["off", "warn", "fail"], var.cloudformation_hook)
    error_message = "It is off, warn or fail."
  }
}

variable "stack_hook" {
  type        = string
  default     = "off"
  description = "Whether CloudFormation asks with the whole template as well, before stacks and change sets: off, warn or fail."

  validation {
    condition     = contains(["off", "warn", "fail"], var.stack_hook)
    error_message = "It is off, warn or fail."
  }
}

variable "reaction" {
  type        = string
  default     = "off"
  description = "Whether tasks that start are judged (report), and those that are refused stopped (stop)."

  validation {
    condition     = contains(["off", "report", "stop"], var.reaction)
    error_message = "It is off, report or stop."
  }
}

variable "spared" {
  type        = string
  default     = ""
  description = "Patterns of cluster/service that are never stopped, separated by commas."
}

variable "subnets" {
  type        = list(string)
  default     = []
  description = "The subnets that the functions are put into, where the server is reached in a VPC, with security_groups. The VPC needs a way to the AWS APIs: see docs/admission-aws.md."
}

variable "security_groups" {
  type        = list(string)
  default     = []
  description = "The security groups of the functions in subnets. They must let out HTTPS and the server's port."
}

variable "log_days" {
  type        = number
  default     = 365
  description = "How long logs are kept."

  validation {
    condition     = contains([30, 60, 90, 180, 365, 400, 731, 1827], var.log_days)
    error_message = "CloudWatch Logs keeps logs for 30, 60, 90, 180, 365, 400, 731 or 1827 days."
  }
}
