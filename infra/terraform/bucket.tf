# The bucket: private, encrypted, with lifecycle rules and CORS for forms from the named origins.

resource "aws_s3_bucket" "media" {
  # checkov:skip=CKV_AWS_18: Access logs need a bucket of yours; CloudTrail data events record the same without one.
  # checkov:skip=CKV_AWS_144: Replication doubles the cost of storage; infra/README.md, "Backup", says when it is worth it.
  bucket        = var.bucket_name
  force_destroy = var.force_destroy
  tags          = var.tags
}

resource "aws_s3_bucket_public_access_block" "media" {
  bucket = aws_s3_bucket.media.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "media" {
  bucket = aws_s3_bucket.media.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "media" {
  bucket = aws_s3_bucket.media.id

  rule {
    bucket_key_enabled = local.with_kms

    apply_server_side_encryption_by_default {
      sse_algorithm     = local.with_kms ? "aws:kms" : "AES256"
      kms_master_key_id = local.with_kms ? aws_kms_key.media[0].arn : null
    }
  }
}

resource "aws_s3_bucket_versioning" "media" {
  count  = var.versioning ? 1 : 0
  bucket = aws_s3_bucket.media.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_cors_configuration" "media" {
  bucket = aws_s3_bucket.media.id

  cors_rule {
    id              = "forms-and-playback"
    allowed_origins = var.allowed_origins
    allowed_methods = ["POST", "GET", "HEAD"]
    # Tracing libraries add request headers of their own. Access is decided by the origin, not by headers.
    allowed_headers = ["*"]
    # Upload libraries wait for ETag, and read the object's address from Location.
    expose_headers  = ["ETag", "Location"]
    max_age_seconds = 3600
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "media" {
  bucket = aws_s3_bucket.media.id

  rule {
    id     = "staging"
    status = "Enabled"

    filter {
      prefix = local.staging_prefix
    }

    expiration {
      days = var.staging_days
    }

    dynamic "noncurrent_version_expiration" {
      for_each = var.versioning ? [1] : []

      content {
        noncurrent_days = 1
      }
    }
  }

  # Compositions of resumable uploads that the broker could not abort; their parts would cost storage for ever. A
  # composition takes seconds to hours.
  rule {
    id     = "incomplete-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  dynamic "rule" {
    for_each = var.versioning ? [1] : []

    content {
      id     = "noncurrent-media"
      status = "Enabled"

      filter {
        prefix = local.media_prefix
      }

      noncurrent_version_expiration {
        noncurrent_days = var.noncurrent_days
      }
    }
  }

  dynamic "rule" {
    for_each = var.versioning ? [1] : []

    content {
      id     = "lone-delete-markers"
      status = "Enabled"

      filter {}

      expiration {
        expired_object_delete_marker = true
      }
    }
  }

  # S3 refuses rules for noncurrent versions before versioning is on.
  depends_on = [aws_s3_bucket_versioning.media]
}

# S3 sends a test event at once, and refuses a queue whose policy does not allow it.
resource "aws_s3_bucket_notification" "media" {
  bucket = aws_s3_bucket.media.id

  queue {
    id            = "arrived-in-staging"
    queue_arn     = local.queue_arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = local.staging_prefix
  }

  depends_on = [aws_sqs_queue.uploads]
}
