output "respond_role" {
  description = "The server's flag --respond-role"
  value       = "${aws_iam_role.respond.arn},${var.external_id}"
}
