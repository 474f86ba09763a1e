output "load_balancer" {
  description = "Point the host's DNS here."
  value       = aws_lb.broker.dns_name
}

output "secret_key_arn" {
  description = "The secret that holds SECRET_KEY: your backend needs it to sign its callers' tokens."
  value       = aws_secretsmanager_secret.secret_key.arn
}
