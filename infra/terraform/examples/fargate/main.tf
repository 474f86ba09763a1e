# The broker on ECS Fargate: replicas of `broker serve` behind a load balancer, `broker worker` beside them, PostgreSQL
# in two zones. Network and certificate are yours.

module "broker" {
  source = "../.."

  bucket_name      = var.bucket_name
  allowed_origins  = var.allowed_origins
  alarm_topic_arns = var.alarm_topic_arns
}

# The load balancer's addresses: what it says of a caller's address is believed, and limits count by that.
data "aws_subnet" "public" {
  for_each = toset(var.public_subnet_ids)
  id       = each.value
}

locals {
  port                = 8000
  worker_metrics_port = 9100

  # Each replica counts rate limits for itself. BROKER_RATE_LIMIT_STORAGE = "rediss://…" lets a Redis of yours count for all;
  # the tasks' security group then needs a way to it.
  environment = merge(module.broker.environment, {
    BROKER_PUBLIC_URL       = "https://${var.hostname}"
    BROKER_CORS_ORIGINS     = join(",", var.allowed_origins)
    BROKER_REDIRECT_ORIGINS = join(",", var.allowed_origins)
    BROKER_TRUSTED_PROXIES  = join(",", [for subnet in data.aws_subnet.public : subnet.cidr_block])
    # libpq reads the password from PGPASSWORD.
    BROKER_DATABASE_URL = "postgresql://broker@${aws_db_instance.broker.endpoint}/broker?sslmode=require"
  })

  secrets = {
    SECRET_KEY = aws_secretsmanager_secret.secret_key.arn
    PGPASSWORD = aws_secretsmanager_secret.database_password.arn
  }
}
