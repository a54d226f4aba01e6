# A role in which Castellan's server stops tasks of ECS and revokes sessions of task roles in this account, and no more.
# What it may do is the same as in ../cloudformation.yaml; a test holds them against each other.

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

locals {
  task_roles = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:role${var.task_role_path}*"
}

resource "aws_iam_role" "respond" {
  name                 = var.name
  max_session_duration = 3600
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = var.server_role }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "sts:ExternalId" = var.external_id } }
    }]
  })
}

resource "aws_iam_role_policy" "stop" {
  name = "StopTasks"
  role = aws_iam_role.respond.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "StopTasks"
        Effect   = "Allow"
        Action   = ["ecs:StopTask", "ecs:DescribeTasks"]
        Resource = var.clusters
      },
      {
        # ECS knows no narrower resource for it.
        Sid      = "FindRoles"
        Effect   = "Allow"
        Action   = "ecs:DescribeTaskDefinition"
        Resource = "*"
      },
    ]
  })
}

resource "aws_iam_role_policy" "revoke" {
  count = var.may_revoke == "yes" ? 1 : 0

  name = "RevokeSessions"
  role = aws_iam_role.respond.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "FindRole"
        Effect   = "Allow"
        Action   = "iam:GetRole"
        Resource = local.task_roles
      },
      # IAM knows no condition for the name or the text of an inline policy.
      merge(
        {
          Sid      = "RevokeSessions"
          Effect   = "Allow"
          Action   = ["iam:PutRolePolicy", "iam:DeleteRolePolicy"]
          Resource = local.task_roles
        },
        { for key, value in { Condition = { StringEquals = { "iam:PermissionsBoundary" = var.boundary } } } : key => value if var.boundary != "" },
      ),
      {
        Sid      = "NotItself"
        Effect   = "Deny"
        Action   = ["iam:PutRolePolicy", "iam:DeleteRolePolicy"]
        Resource = [aws_iam_role.respond.arn, var.server_role]
      },
    ]
  })
}
