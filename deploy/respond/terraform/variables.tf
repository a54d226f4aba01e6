# The settings are those of ../cloudformation.yaml, by the same names in Terraform's spelling.

variable "name" {
  type        = string
  default     = "castellan-respond"
  description = "The name of the role."

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", var.name))
    error_message = "It is up to 64 letters, digits and +=,.@_-."
  }
}

variable "server_role" {
  type        = string
  description = "ARN of the role that the server has, in this account or another one."

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", var.server_role))
    error_message = "It is the ARN of a role."
  }
}

variable "external_id" {
  type        = string
  description = "What the server must say to take the role; any text that nobody else uses."

  validation {
    condition     = can(regex("^[A-Za-z0-9_+=,.@:/-]{8,1000}$", var.external_id))
    error_message = "It is 8 to 1,000 letters, digits and _+=,.@:/-."
  }
}

variable "clusters" {
  type        = list(string)
  description = "ARNs of the tasks that may be stopped, arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/*."
}

variable "task_role_path" {
  type        = string
  default     = "/tasks/"
  description = "Path of the roles of tasks whose sessions may be revoked. No other role may have it."

  validation {
    condition     = can(regex("^/([A-Za-z0-9_+=,.@-]+/)+$", var.task_role_path))
    error_message = "It is a path with a slash at both ends, and something between."
  }
}

variable "may_revoke" {
  type        = string
  default     = "no"
  description = "Whether sessions may be revoked. Who may write a policy of a role can give that role any right within its permissions boundary."

  validation {
    condition     = contains(["yes", "no"], var.may_revoke)
    error_message = "It is yes or no."
  }
}

variable "boundary" {
  type        = string
  default     = ""
  description = "ARN of the permissions boundary that roles must have for their sessions to be revoked; empty for none."
}
