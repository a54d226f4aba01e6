# The function for EventBridge. It alone may stop tasks, and only if it is to.

locals {
  has_reaction = var.reaction != "off"
  stops_tasks  = var.reaction == "stop"
}

resource "aws_cloudwatch_log_group" "reaction" {
  count = local.has_reaction ? 1 : 0

  name              = "/aws/lambda/${var.name}-reaction"
  retention_in_days = var.log_days
  skip_destroy      = true
}

resource "aws_iam_role" "reaction" {
  count = local.has_reaction ? 1 : 0

  name               = "${var.name}-reaction-${local.region}"
  assume_role_policy = local.lambda_trust
}

resource "aws_iam_role_policy" "reaction" {
  count = local.has_reaction ? 1 : 0

  name = "reaction"
  role = aws_iam_role.reaction[0].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = local.stops_tasks ? "ReadAndStopTasks" : "ReadTasks"
        Effect   = "Allow"
        Action   = local.stops_tasks ? ["ecs:DescribeTasks", "ecs:StopTask"] : ["ecs:DescribeTasks"]
        Resource = "arn:${local.partition}:ecs:${local.region}:${local.account}:task/*"
      },
      {
        Sid      = "PutAside"
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = aws_sqs_queue.failed[0].arn
      },
      {
        Sid      = "WriteLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.reaction[0].arn}:*"
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "reaction_read" {
  count = local.has_reaction ? 1 : 0

  role       = aws_iam_role.reaction[0].name
  policy_arn = aws_iam_policy.read.arn
}

resource "aws_iam_role_policy_attachment" "reaction_roles" {
  count = local.has_reaction && var.read_roles ? 1 : 0

  role       = aws_iam_role.reaction[0].name
  policy_arn = aws_iam_policy.roles[0].arn
}

resource "aws_iam_role_policy_attachment" "reaction_network" {
  count = local.has_reaction && local.in_vpc ? 1 : 0

  role       = aws_iam_role.reaction[0].name
  policy_arn = aws_iam_policy.network[0].arn
}

resource "aws_lambda_function" "reaction" {
  count = local.has_reaction ? 1 : 0

  function_name = "${var.name}-reaction"
  description   = "Judges tasks that start by Castellan's admission policy, and stops those that are refused."
  runtime       = "provided.al2023"
  handler       = "bootstrap"
  architectures = [var.architecture]
  memory_size   = 512
  timeout       = 28
  # One at a time, so that its limit on what it stops holds for all.
  reserved_concurrent_executions = 1
  role                           = aws_iam_role.reaction[0].arn
  s3_bucket                      = var.code_bucket
  s3_key                         = var.code_key

  # Empty lists stand for none.
  vpc_config {
    subnet_ids         = var.subnets
    security_group_ids = local.in_vpc ? var.security_groups : []
  }

  environment {
    variables = merge(local.environment, {
      CASTELLAN_STOP_TASKS = tostring(local.stops_tasks)
      CASTELLAN_SPARE      = var.spared
    })
  }

  depends_on = [
    aws_cloudwatch_log_group.reaction,
    aws_iam_role_policy.reaction,
    aws_iam_role_policy_attachment.reaction_read,
    aws_iam_role_policy_attachment.reaction_roles,
    aws_iam_role_policy_attachment.reaction_network,
  ]
}

resource "aws_lambda_function_event_invoke_config" "reaction" {
  count = local.has_reaction ? 1 : 0

  function_name                = aws_lambda_function.reaction[0].function_name
  qualifier                    = "$LATEST"
  maximum_event_age_in_seconds = 900
  maximum_retry_attempts       = 2

  destination_config {
    on_failure {
      destination = aws_sqs_queue.failed[0].arn
    }
  }
}

resource "aws_cloudwatch_event_rule" "task_starts" {
  count = local.has_reaction ? 1 : 0

  name        = "${var.name}-task-starts"
  description = "Tasks that start, for Castellan."
  state       = "ENABLED"
  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail = {
      desiredStatus = ["RUNNING"]
      lastStatus    = ["PROVISIONING", "PENDING", "RUNNING"]
    }
  })
}

resource "aws_cloudwatch_event_target" "reaction" {
  count = local.has_reaction ? 1 : 0

  rule      = aws_cloudwatch_event_rule.task_starts[0].name
  target_id = "castellan"
  arn       = aws_lambda_function.reaction[0].arn

  dead_letter_config {
    arn = aws_sqs_queue.failed[0].arn
  }

  retry_policy {
    maximum_event_age_in_seconds = 900
    maximum_retry_attempts       = 5
  }
}

resource "aws_lambda_permission" "rule_calls" {
  count = local.has_reaction ? 1 : 0

  statement_id  = "task-starts"
  function_name = aws_lambda_function.reaction[0].function_name
  action        = "lambda:InvokeFunction"
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.task_starts[0].arn
}

# Events that could not be dealt with: each is a task that nobody has judged.
resource "aws_sqs_queue" "failed" {
  count = local.has_reaction ? 1 : 0

  name                      = "${var.name}-failed"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue_policy" "failed" {
  count = local.has_reaction ? 1 : 0

  queue_url = aws_sqs_queue.failed[0].url
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "RulePutsAside"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.failed[0].arn
        Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.task_starts[0].arn } }
      },
      {
        Sid       = "OnlyByTLS"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.failed[0].arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

resource "aws_cloudwatch_metric_alarm" "failed" {
  count = local.has_reaction ? 1 : 0

  alarm_name          = "${var.name}-failed"
  alarm_description   = "Castellan could not judge or stop a task. The queue has the events."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.failed[0].name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
}
