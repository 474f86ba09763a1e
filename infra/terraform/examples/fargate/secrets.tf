# Both secrets are created here and never enter Terraform's state. To replace one, raise its version, apply, and start
# new tasks.

ephemeral "aws_secretsmanager_random_password" "secret_key" {
  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "secret_key" {
  # checkov:skip=CKV_AWS_149: The key of AWS serves this account alone; set kms_key_id to share a secret with another account.
  # checkov:skip=CKV2_AWS_57: The issuer of the tokens must change it at the same time; see "Keys" in infra/README.md.
  name_prefix = "${var.name}-secret-key-"
  description = "SECRET_KEY: signs and verifies the tokens of the broker's callers"
}

resource "aws_secretsmanager_secret_version" "secret_key" {
  secret_id                = aws_secretsmanager_secret.secret_key.id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.secret_key.random_password
  secret_string_wo_version = 1
}

locals {
  database_password_version = 1
}

ephemeral "aws_secretsmanager_random_password" "database" {
  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "database_password" {
  # checkov:skip=CKV_AWS_149: The key of AWS serves this account alone; set kms_key_id to share a secret with another account.
  # checkov:skip=CKV2_AWS_57: New tasks must start with the new password; raise its version, as described above.
  name_prefix = "${var.name}-database-"
  description = "The password of the broker's database user"
}

resource "aws_secretsmanager_secret_version" "database_password" {
  secret_id                = aws_secretsmanager_secret.database_password.id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.database.random_password
  secret_string_wo_version = local.database_password_version
}

# Read back, so that the database gets the secret's value even if an earlier apply stopped between the two.
ephemeral "aws_secretsmanager_secret_version" "database_password" {
  secret_id  = aws_secretsmanager_secret_version.database_password.secret_id
  version_id = aws_secretsmanager_secret_version.database_password.version_id
}
