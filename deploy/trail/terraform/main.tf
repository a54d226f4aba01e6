# What Castellan's server needs to hear of calls of AWS in this account and region: a queue that is told of calls that
# rules of detection look at, and a policy for the role of the server, or a role that a server in another account
# assumes. What each may do is the same as in ../cloudformation.yaml; a test holds them against each other.

data "aws_partition" "current" {}

locals {
  partition          = data.aws_partition.current.partition
  has_server_account = var.server_account_role != ""
  has_bucket         = var.trail_bucket != ""

  # Of both queues.
  queue_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "RulesSend"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.calls.arn
        Condition = {
          ArnEquals = { "aws:SourceArn" = [aws_cloudwatch_event_rule.changes.arn, aws_cloudwatch_event_rule.of_tasks.arn] }
        }
      }],
      local.has_bucket ? [{
        Sid       = "BucketSends"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.calls.arn
        Condition = { ArnEquals = { "aws:SourceArn" = "arn:${local.partition}:s3:::${var.trail_bucket}" } }
      }] : [],
      [{
        Sid       = "OnlyByTLS"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = [aws_sqs_queue.calls.arn, aws_sqs_queue.unreadable.arn]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
    )
  })
}

resource "aws_sqs_queue" "calls" {
  name                    = "${var.name}-calls"
  sqs_managed_sse_enabled = true
  # A server that is away for a weekend misses nothing.
  message_retention_seconds  = 345600
  visibility_timeout_seconds = 300
  receive_wait_time_seconds  = 20
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.unreadable.arn
    maxReceiveCount     = 5
  })
}

resource "aws_sqs_queue" "unreadable" {
  name                      = "${var.name}-calls-unreadable"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue_policy" "calls" {
  queue_url = aws_sqs_queue.calls.url
  policy    = local.queue_policy
}

resource "aws_sqs_queue_policy" "unreadable" {
  queue_url = aws_sqs_queue.unreadable.url
  policy    = local.queue_policy
}

# What weakens the account or its containers, whoever does it.
resource "aws_cloudwatch_event_rule" "changes" {
  name        = "${var.name}-changes"
  description = "Calls of AWS that change what Castellan's rules of detection look at."
  state       = "ENABLED"
  event_pattern = jsonencode({
    "detail-type" = ["AWS API Call via CloudTrail", "AWS Console Sign In via CloudTrail"]
    detail = {
      eventSource = [
        "ecs.amazonaws.com",
        "ecr.amazonaws.com",
        "iam.amazonaws.com",
        "cloudtrail.amazonaws.com",
        "logs.amazonaws.com",
        "guardduty.amazonaws.com",
        "securityhub.amazonaws.com",
        "config.amazonaws.com",
        "inspector2.amazonaws.com",
        "macie2.amazonaws.com",
        "access-analyzer.amazonaws.com",
        "monitoring.amazonaws.com",
        "events.amazonaws.com",
        "ec2.amazonaws.com",
        "ec2-instance-connect.amazonaws.com",
        "rds.amazonaws.com",
        "s3.amazonaws.com",
        "kms.amazonaws.com",
        "lambda.amazonaws.com",
        "ssm.amazonaws.com",
        "secretsmanager.amazonaws.com",
        "organizations.amazonaws.com",
        "rolesanywhere.amazonaws.com",
        "route53resolver.amazonaws.com",
        "wafv2.amazonaws.com",
        "cloudformation.amazonaws.com",
        "sqs.amazonaws.com",
        "sns.amazonaws.com",
        "elasticfilesystem.amazonaws.com",
        "dynamodb.amazonaws.com",
        "backup.amazonaws.com",
        "sts.amazonaws.com",
        "signin.amazonaws.com",
      ]
      # Services that call by themselves are most of the calls, and no rule looks at them.
      userIdentity = { type = [{ "anything-but" = "AWSService" }] }
    }
  })
}

resource "aws_cloudwatch_event_target" "changes" {
  rule      = aws_cloudwatch_event_rule.changes.name
  target_id = "castellan"
  arn       = aws_sqs_queue.calls.arn
}

# All that tasks and instances call with the credentials of their roles: from where, and what they are refused.
resource "aws_cloudwatch_event_rule" "of_tasks" {
  name        = "${var.name}-of-tasks"
  description = "Calls of AWS by sessions of roles, those that only read too, for Castellan."
  state       = var.task_calls
  event_pattern = jsonencode({
    "detail-type" = ["AWS API Call via CloudTrail"]
    detail = {
      userIdentity = { type = ["AssumedRole"] }
      readOnly     = [true]
    }
  })
}

resource "aws_cloudwatch_event_target" "of_tasks" {
  rule      = aws_cloudwatch_event_rule.of_tasks.name
  target_id = "castellan"
  arn       = aws_sqs_queue.calls.arn
}

resource "aws_iam_policy" "reader" {
  name        = "${var.name}-reader"
  description = "Lets Castellan's server take the messages of the queue, and read the trail's files if it is to."
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid      = "TakeMessages"
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage"]
        Resource = aws_sqs_queue.calls.arn
      }],
      local.has_bucket ? [{
        Sid      = "ReadFiles"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = "arn:${local.partition}:s3:::${var.trail_bucket}/${var.trail_prefix}*"
      }] : [],
      var.trail_key != "" ? [{
        Sid      = "DecryptFiles"
        Effect   = "Allow"
        Action   = "kms:Decrypt"
        Resource = var.trail_key
      }] : [],
    )
  })

  lifecycle {
    precondition {
      condition     = !local.has_server_account || var.external_id != ""
      error_message = "A role that another account assumes needs an external_id."
    }
  }
}

resource "aws_iam_role_policy_attachment" "server" {
  count = var.server_role != "" ? 1 : 0

  role       = var.server_role
  policy_arn = aws_iam_policy.reader.arn
}

# What a server in another account assumes to hear of calls in this one.
resource "aws_iam_role" "reader" {
  count = local.has_server_account ? 1 : 0

  name        = "${var.name}-reader"
  description = "What a server of Castellan in another account assumes to hear of calls in this one."
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = var.server_account_role }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "sts:ExternalId" = var.external_id } }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "reader" {
  count = local.has_server_account ? 1 : 0

  role       = aws_iam_role.reader[0].name
  policy_arn = aws_iam_policy.reader.arn
}
