# Castellan's doors of deployment in this account and region: one function for ECS's deployment hook and
# CloudFormation's hook, which may only read, and one for what EventBridge tells of tasks, which may stop them
# (reaction.tf). What each may do is the same as in ../cloudformation.yaml; a test holds them against each other.

data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

locals {
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.region
  account   = data.aws_caller_identity.current.account_id

  has_bundle = var.bundle_bucket != ""
  in_vpc     = length(var.subnets) > 0
  token      = var.token_secret != "" ? var.token_secret : var.token_parameter

  # Of both functions.
  environment = {
    CASTELLAN_ON_ERROR           = var.on_error
    CASTELLAN_SERVER             = var.server
    CASTELLAN_CA_FINGERPRINT     = var.server_fingerprint
    CASTELLAN_TOKEN_SECRET       = local.token
    CASTELLAN_BUNDLE             = local.has_bundle ? "s3://${var.bundle_bucket}/${var.bundle_path}" : ""
    CASTELLAN_BUNDLE_KEY         = var.bundle_public_key
    CASTELLAN_BUNDLE_MIN_VERSION = tostring(var.bundle_min_version)
    CASTELLAN_READ_ROLES         = tostring(var.read_roles)
  }

  # Lambda assumes the roles of functions.
  lambda_trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })

  # What Lambda needs to put a function into a VPC. These actions know no resources.
  network_actions = [
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
  ]
}

# What both functions may do: read what a deployment is made of, and what decides.
resource "aws_iam_policy" "read" {
  name        = "${var.name}-read-${local.region}"
  description = "Lets Castellan's doors read what a deployment is made of."
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "ReadDefinitions"
        Effect = "Allow"
        Action = "ecs:DescribeTaskDefinition"
        # This action knows no resources.
        Resource = "*"
      },
      {
        Sid      = "LookUpTags"
        Effect   = "Allow"
        Action   = "ecr:DescribeImages"
        Resource = "arn:${local.partition}:ecr:${local.region}:${local.account}:repository/${var.repositories}"
      },
      {
        # One of them decides, and it alone is read: the bundle, or the token for the server.
        Sid      = "ReadWhatDecides"
        Effect   = "Allow"
        Action   = local.has_bundle ? "s3:GetObject" : var.token_secret != "" ? "secretsmanager:GetSecretValue" : "ssm:GetParameter"
        Resource = local.has_bundle ? "arn:${local.partition}:s3:::${var.bundle_bucket}/${var.bundle_path}" : local.token
      },
    ]
  })
}

resource "aws_iam_policy" "roles" {
  count = var.read_roles ? 1 : 0

  name        = "${var.name}-roles-${local.region}"
  description = "Lets Castellan's doors read what the roles of tasks permit."
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ReadRoles"
        Effect   = "Allow"
        Action   = ["iam:GetRole", "iam:ListRolePolicies", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies"]
        Resource = "arn:${local.partition}:iam::${local.account}:role/*"
      },
      {
        Sid    = "ReadPolicies"
        Effect = "Allow"
        Action = ["iam:GetPolicy", "iam:GetPolicyVersion"]
        Resource = [
          "arn:${local.partition}:iam::${local.account}:policy/*",
          "arn:${local.partition}:iam::aws:policy/*",
        ]
      },
    ]
  })
}

# The program in the function is denied what is for Lambda alone.
resource "aws_iam_policy" "network" {
  count = local.in_vpc ? 1 : 0

  name        = "${var.name}-network-${local.region}"
  description = "Lets Lambda put Castellan's doors into a VPC, and not the program in them."
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "JoinNetwork"
        Effect   = "Allow"
        Action   = local.network_actions
        Resource = "*"
      },
      {
        Sid      = "NotByTheProgram"
        Effect   = "Deny"
        Action   = local.network_actions
        Resource = "*"
        Condition = {
          ArnLike = {
            "lambda:SourceFunctionArn" = "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${var.name}-*"
          }
        }
      },
    ]
  })
}

# The function for the hooks, which may only read.
resource "aws_cloudwatch_log_group" "gate" {
  name              = "/aws/lambda/${var.name}-gate"
  retention_in_days = var.log_days
  skip_destroy      = true
}

resource "aws_iam_role" "gate" {
  name               = "${var.name}-gate-${local.region}"
  assume_role_policy = local.lambda_trust
}

resource "aws_iam_role_policy" "gate" {
  name = "gate"
  role = aws_iam_role.gate.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ReadRevisions"
        Effect   = "Allow"
        Action   = "ecs:DescribeServiceRevisions"
        Resource = "arn:${local.partition}:ecs:${local.region}:${local.account}:service-revision/*"
      },
      {
        Sid      = "ReadServices"
        Effect   = "Allow"
        Action   = "ecs:DescribeServices"
        Resource = "arn:${local.partition}:ecs:${local.region}:${local.account}:service/*"
      },
      {
        Sid      = "ReadClusters"
        Effect   = "Allow"
        Action   = "ecs:DescribeClusters"
        Resource = "arn:${local.partition}:ecs:${local.region}:${local.account}:cluster/*"
      },
      {
        Sid      = "WriteLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.gate.arn}:*"
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "gate_read" {
  role       = aws_iam_role.gate.name
  policy_arn = aws_iam_policy.read.arn
}

resource "aws_iam_role_policy_attachment" "gate_roles" {
  count = var.read_roles ? 1 : 0

  role       = aws_iam_role.gate.name
  policy_arn = aws_iam_policy.roles[0].arn
}

resource "aws_iam_role_policy_attachment" "gate_network" {
  count = local.in_vpc ? 1 : 0

  role       = aws_iam_role.gate.name
  policy_arn = aws_iam_policy.network[0].arn
}

resource "aws_lambda_function" "gate" {
  function_name = "${var.name}-gate"
  description   = "Answers ECS's deployment hook and CloudFormation's hook by Castellan's admission policy."
  runtime       = "provided.al2023"
  handler       = "bootstrap"
  architectures = [var.architecture]
  memory_size   = 512
  # CloudFormation waits 30 seconds for a hook.
  timeout   = 28
  role      = aws_iam_role.gate.arn
  s3_bucket = var.code_bucket
  s3_key    = var.code_key

  # Empty lists stand for none.
  vpc_config {
    subnet_ids         = var.subnets
    security_group_ids = local.in_vpc ? var.security_groups : []
  }

  environment {
    variables = local.environment
  }

  lifecycle {
    precondition {
      condition     = (var.server != "") != (var.bundle_bucket != "") && (var.bundle_bucket == "" || var.bundle_public_key != "")
      error_message = "Give either server, with token_secret or token_parameter, or bundle_bucket and bundle_public_key."
    }
    precondition {
      condition     = var.server == "" || (var.token_secret != "") != (var.token_parameter != "")
      error_message = "Give server with either token_secret or token_parameter."
    }
  }

  depends_on = [
    aws_cloudwatch_log_group.gate,
    aws_iam_role_policy.gate,
    aws_iam_role_policy_attachment.gate_read,
    aws_iam_role_policy_attachment.gate_roles,
    aws_iam_role_policy_attachment.gate_network,
  ]
}
