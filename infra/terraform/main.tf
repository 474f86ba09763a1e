# The AWS resources that the broker needs. The prefixes are those of broker/domain/keys.py.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id

  staging_prefix = "staging/"
  media_prefix   = "media/"
  queue_name     = "${var.bucket_name}-uploads"
  dead_name      = "${var.bucket_name}-uploads-dead"

  # Built from names, so that a plan shows every policy in full before any resource exists.
  bucket_arn  = "arn:${local.partition}:s3:::${var.bucket_name}"
  staging_arn = "${local.bucket_arn}/${local.staging_prefix}*"
  media_arn   = "${local.bucket_arn}/${local.media_prefix}*"
  queue_arn   = "arn:${local.partition}:sqs:${local.region}:${local.account}:${local.queue_name}"
  dead_arn    = "arn:${local.partition}:sqs:${local.region}:${local.account}:${local.dead_name}"

  with_kms        = var.encryption == "sse-kms"
  with_cloudfront = var.cloudfront != null
}
