resource "aws_db_subnet_group" "broker" {
  name       = var.name
  subnet_ids = var.private_subnet_ids
}

# The server requires TLS, whatever the client asks for.
resource "aws_db_parameter_group" "broker" {
  name_prefix = "${var.name}-"
  family      = "postgres17"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "broker" {
  # checkov:skip=CKV_AWS_118: Performance Insights shows the load of the broker; the agent of enhanced monitoring needs a role of its own.
  # checkov:skip=CKV_AWS_354: The insights hold statements without values; the key of AWS suffices.
  # checkov:skip=CKV_AWS_161: The password is 40 random characters that only the secret and the database hold; IAM tokens last 15 minutes.
  identifier     = var.name
  engine         = "postgres"
  engine_version = "17"
  instance_class = var.database_class

  db_name  = "broker"
  username = "broker"
  # Write-only: the password is stored only in its secret and in the database.
  password_wo         = ephemeral.aws_secretsmanager_secret_version.database_password.secret_string
  password_wo_version = local.database_password_version

  allocated_storage     = var.database_gigabytes
  max_allocated_storage = var.database_gigabytes * 10
  storage_type          = "gp3"
  storage_encrypted     = true

  multi_az                  = true
  backup_retention_period   = 14
  deletion_protection       = true
  skip_final_snapshot       = false
  final_snapshot_identifier = "${var.name}-final"
  copy_tags_to_snapshot     = true

  auto_minor_version_upgrade            = true
  enabled_cloudwatch_logs_exports       = ["postgresql", "upgrade"]
  performance_insights_enabled          = true
  performance_insights_retention_period = 7

  db_subnet_group_name   = aws_db_subnet_group.broker.name
  parameter_group_name   = aws_db_parameter_group.broker.name
  vpc_security_group_ids = [aws_security_group.database.id]
  publicly_accessible    = false
}
