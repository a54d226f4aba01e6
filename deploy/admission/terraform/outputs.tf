output "hook_target_arn" {
  description = "For the lifecycle hook of each service, hook_target_arn."
  value       = aws_lambda_function.gate.arn
}

output "hook_role_arn" {
  description = "For the lifecycle hook of each service, role_arn."
  value       = aws_iam_role.deployment_hook.arn

  # A service that is deployed at once finds a role that may call.
  depends_on = [aws_iam_role_policy.deployment_hook]
}

output "failed_queue" {
  description = "Events of tasks that could not be judged or stopped; null without a reaction."
  value       = local.has_reaction ? aws_sqs_queue.failed[0].url : null
}
