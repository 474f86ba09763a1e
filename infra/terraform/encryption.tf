# With sse-kms: a key for this bucket alone.

resource "aws_kms_key" "media" {
  count = local.with_kms ? 1 : 0

  description             = "Media of ${var.bucket_name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key[0].json
  tags                    = var.tags
}

resource "aws_kms_alias" "media" {
  count = local.with_kms ? 1 : 0

  name          = "alias/${var.bucket_name}"
  target_key_id = aws_kms_key.media[0].key_id
}

data "aws_iam_policy_document" "key" {
  # checkov:skip=CKV_AWS_111: In the policy of a key, "*" is that key, and the account must be able to administer it.
  # checkov:skip=CKV_AWS_356: In the policy of a key, "*" is that key.
  # checkov:skip=CKV_AWS_109: The account administers its own key by its IAM policies.
  count = local.with_kms ? 1 : 0

  # Without this statement the key could not be administered. It delegates access to the account's IAM policies.
  statement {
    sid       = "AllowAccount"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }
  }

  dynamic "statement" {
    for_each = local.with_cloudfront ? [1] : []

    content {
      sid       = "AllowCloudFront"
      actions   = ["kms:Decrypt"]
      resources = ["*"]

      principals {
        type        = "Service"
        identifiers = ["cloudfront.amazonaws.com"]
      }

      # Naming the one distribution here would be a circle: it needs the bucket, which needs this key. The bucket's
      # policy names it.
      condition {
        test     = "ArnLike"
        variable = "aws:SourceArn"
        values   = ["arn:${local.partition}:cloudfront::${local.account}:distribution/*"]
      }

      condition {
        test     = "StringEquals"
        variable = "kms:EncryptionContext:aws:s3:arn"
        values   = [local.bucket_arn]
      }
    }
  }
}
