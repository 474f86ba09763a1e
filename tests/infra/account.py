"""The account in which the stand-in makes everything; moto's own."""

ACCOUNT = "123456789012"
REGION = "eu-central-1"
