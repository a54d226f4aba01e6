# How a service has its deployments asked for: the lifecycle hook before the first task of a new revision starts.

variable "cluster" {
  type = string
}

variable "task_definition" {
  type        = string
  description = "The ARN of the task definition that is deployed."
}

variable "subnets" {
  type = list(string)
}

variable "castellan_token_secret" {
  type        = string
  description = "The ARN of the secret with a token of the scope admission:decide."
}

module "castellan" {
  source = "./terraform"

  code_bucket        = "my-artifacts"
  code_key           = "castellan/castellan-lambda-arm64.zip"
  server             = "https://castellan.internal:8600"
  server_fingerprint = "sha256:…"
  token_secret       = var.castellan_token_secret
}

resource "aws_ecs_service" "web" {
  name                   = "web"
  cluster                = var.cluster
  task_definition        = var.task_definition
  desired_count          = 2
  launch_type            = "FARGATE"
  platform_version       = "LATEST"
  enable_execute_command = false
  # Else terraform apply is done before ECS has asked.
  wait_for_steady_state = true

  network_configuration {
    subnets          = var.subnets
    assign_public_ip = false
  }

  deployment_configuration {
    strategy             = "BLUE_GREEN"
    bake_time_in_minutes = "5"

    lifecycle_hook {
      hook_target_arn  = module.castellan.hook_target_arn
      role_arn         = module.castellan.hook_role_arn
      lifecycle_stages = ["PRE_SCALE_UP"]
    }
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
}
