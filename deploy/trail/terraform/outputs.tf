output "queue" {
  description = "The queue's URL, for castellan detect trail add NAME --queue URL."
  value       = aws_sqs_queue.calls.url
}

output "queue_arn" {
  description = "The queue's ARN, for the notifications of the trail's bucket."
  value       = aws_sqs_queue.calls.arn
}

output "role" {
  description = "The role, for castellan detect trail add --role ARN; null where the server is in this account."
  value       = local.has_server_account ? aws_iam_role.reader[0].arn : null
}
