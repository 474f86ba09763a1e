"""The account and region of the stand-in for AWS; moto's own account."""

ACCOUNT = "123456789012"
REGION = "eu-central-1"
