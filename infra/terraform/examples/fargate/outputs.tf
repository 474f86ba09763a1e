output "load_balancer" {
  description = "The load balancer's DNS name. Point your host's DNS at it."
  value       = aws_lb.broker.dns_name
}

output "secret_key_arn" {
  description = "The secret that holds SECRET_KEY. Your backend needs it to sign tokens."
  value       = aws_secretsmanager_secret.secret_key.arn
}
