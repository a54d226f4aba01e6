# ECS calls the function with this role: name it in the lifecycle hook of each service.
resource "aws_iam_role" "deployment_hook" {
  name = "${var.name}-ecs-${local.region}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy" "deployment_hook" {
  name = "call"
  role = aws_iam_role.deployment_hook.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "lambda:InvokeFunction"
      Resource = aws_lambda_function.gate.arn
    }]
  })
}

locals {
  template_hooks = {
    ResourceHook   = var.cloudformation_hook
    WholeStackHook = var.stack_hook
  }
  has_template_hook = length([for mode in local.template_hooks : mode if mode != "off"]) > 0
}

resource "aws_iam_role" "template_hook" {
  count = local.has_template_hook ? 1 : 0

  name = "${var.name}-cloudformation-${local.region}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "hooks.cloudformation.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy" "template_hook" {
  count = local.has_template_hook ? 1 : 0

  name = "call"
  role = aws_iam_role.template_hook[0].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "lambda:InvokeFunction"
      Resource = aws_lambda_function.gate.arn
    }]
  })
}

# The aws provider knows no Lambda hooks: its aws_cloudformation_type registers packages of handlers, and has nothing
# for their configuration and targets. A stack that has the hooks and nothing else makes them.
resource "aws_cloudformation_stack" "hooks" {
  count = local.has_template_hook ? 1 : 0

  name = "${var.name}-hooks"
  template_body = jsonencode({
    AWSTemplateFormatVersion = "2010-09-09"
    Description              = "CloudFormation's hooks that ask Castellan."
    Resources = {
      for name, hook in {
        ResourceHook = {
          Type = "AWS::CloudFormation::LambdaHook"
          Properties = {
            Alias            = "Castellan::Admission::Resources"
            LambdaFunction   = aws_lambda_function.gate.arn
            ExecutionRole    = aws_iam_role.template_hook[0].arn
            HookStatus       = "ENABLED"
            FailureMode      = upper(var.cloudformation_hook)
            TargetOperations = ["RESOURCE", "CLOUD_CONTROL"]
            TargetFilters = {
              Actions          = ["CREATE", "UPDATE"]
              InvocationPoints = ["PRE_PROVISION"]
              TargetNames = [
                "AWS::ECS::TaskDefinition",
                "AWS::ECS::Service",
                "AWS::ECS::TaskSet",
                "AWS::ECR::Repository",
              ]
            }
          }
        }
        WholeStackHook = {
          Type = "AWS::CloudFormation::LambdaHook"
          Properties = {
            Alias            = "Castellan::Admission::Stacks"
            LambdaFunction   = aws_lambda_function.gate.arn
            ExecutionRole    = aws_iam_role.template_hook[0].arn
            HookStatus       = "ENABLED"
            FailureMode      = upper(var.stack_hook)
            TargetOperations = ["STACK", "CHANGE_SET"]
          }
        }
      } : name => hook if local.template_hooks[name] != "off"
    }
  })

  # A hook may be called as soon as it is there.
  depends_on = [aws_iam_role_policy.template_hook]
}
