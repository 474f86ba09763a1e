# The broker on ECS Fargate: replicas of `broker serve` behind a load balancer, `broker worker` beside them, PostgreSQL
# in two zones. You bring network and certificate.

module "broker" {
  source = "../.."

  bucket_name      = var.bucket_name
  allowed_origins  = var.allowed_origins
  alarm_topic_arns = var.alarm_topic_arns
}

# The load balancer's addresses. Its X-Forwarded-For is trusted, so that rate limits count by the caller's address.
data "aws_subnet" "public" {
  for_each = toset(var.public_subnet_ids)
  id       = each.value
}

locals {
  port                = 8000
  worker_metrics_port = 9100

  # Each replica counts rate limits for itself. To count across all, set BROKER_RATE_LIMIT_STORAGE = "rediss://…" and allow
  # the tasks' security group to reach that Redis.
  environment = merge(module.broker.environment, {
    BROKER_PUBLIC_URL   = "https://${var.hostname}"
    BROKER_CORS_ORIGINS = join(",", var.allowed_origins)
    # S3 redirects a plain form to a page of the web, not to an app or to a pattern.
    BROKER_REDIRECT_ORIGINS = join(",", [for origin in var.allowed_origins : origin if can(regex("^https?://[^*]+$", origin))])
    BROKER_TRUSTED_PROXIES  = join(",", [for subnet in data.aws_subnet.public : subnet.cidr_block])
    # libpq reads the password from PGPASSWORD.
    BROKER_DATABASE_URL = "postgresql://broker@${aws_db_instance.broker.endpoint}/broker?sslmode=require"
  })

  secrets = {
    SECRET_KEY = aws_secretsmanager_secret.secret_key.arn
    PGPASSWORD = aws_secretsmanager_secret.database_password.arn
  }
}
