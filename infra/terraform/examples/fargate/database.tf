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
  performance_insights_enabled          = true
  performance_insights_retention_period = 7

  db_subnet_group_name   = aws_db_subnet_group.broker.name
  parameter_group_name   = aws_db_parameter_group.broker.name
  vpc_security_group_ids = [aws_security_group.database.id]
  publicly_accessible    = false
}
