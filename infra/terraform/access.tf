# The least rights for each program, from the calls in broker/aws/bucket.py and broker/aws/queue.py. Attach each policy to
# its program's role.

resource "aws_iam_policy" "signer" {
  name        = "${var.bucket_name}-signer"
  description = "broker serve: signs forms and playback links, checks, promotes and purges"
  policy      = data.aws_iam_policy_document.signer.json
  tags        = var.tags
}

resource "aws_iam_policy" "worker" {
  name        = "${var.bucket_name}-worker"
  description = "broker worker: reads the queue, checks, promotes and purges"
  policy      = data.aws_iam_policy_document.worker.json
  tags        = var.tags
}

resource "aws_iam_policy" "doctor" {
  name        = "${var.bucket_name}-doctor"
  description = "broker doctor: reads the settings of bucket and queues; needed beside the signer's policy"
  policy      = data.aws_iam_policy_document.doctor.json
  tags        = var.tags
}

data "aws_iam_policy_document" "signer" {
  source_policy_documents = [data.aws_iam_policy_document.settle.json]

  # A form carries the rights of the keys that signed it.
  statement {
    sid       = "SignForms"
    actions   = concat(["s3:PutObject"], var.tag_objects ? ["s3:PutObjectTagging"] : [])
    resources = [local.staging_arn]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceAccount"
      values   = [local.account]
    }
  }
}

data "aws_iam_policy_document" "worker" {
  source_policy_documents = [data.aws_iam_policy_document.settle.json]

  statement {
    sid       = "ReceiveEvents"
    actions   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"]
    resources = [local.queue_arn]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceAccount"
      values   = [local.account]
    }
  }
}

# The operations of a media's life, shared by both programs: HEAD, copy, purge. The condition on aws:ResourceAccount holds
# even if a bucket of this name one day belongs to another account.
data "aws_iam_policy_document" "settle" {
  # HEAD on both sides of the copy, the copy's source, and the playback links, which also carry the signer's rights.
  statement {
    sid       = "ReadObjects"
    actions   = ["s3:GetObject"]
    resources = [local.staging_arn, local.media_arn]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceAccount"
      values   = [local.account]
    }
  }

  statement {
    sid       = "Promote"
    actions   = concat(["s3:PutObject"], var.tag_objects ? ["s3:PutObjectTagging"] : [])
    resources = [local.media_arn]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceAccount"
      values   = [local.account]
    }
  }

  statement {
    sid       = "Purge"
    actions   = concat(["s3:DeleteObject"], var.versioning ? ["s3:DeleteObjectVersion"] : [])
    resources = [local.staging_arn, local.media_arn]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceAccount"
      values   = [local.account]
    }
  }

  # Without it, HEAD answers 403 for an absent object, and the broker could not tell "absent" from "refused". There is
  # no condition on the prefix, because a HEAD names none.
  statement {
    sid       = "TellAbsence"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceAccount"
      values   = [local.account]
    }
  }

  # The composition of resumable uploads: S3 copies their parts, with the rights above, into a multipart upload.
  statement {
    sid       = "Compose"
    actions   = ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = [local.media_arn]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceAccount"
      values   = [local.account]
    }
  }

  # S3 sends no s3:prefix for this action, so a condition on it would deny every listing.
  statement {
    sid       = "FindCompositions"
    actions   = ["s3:ListBucketMultipartUploads"]
    resources = [local.bucket_arn]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceAccount"
      values   = [local.account]
    }
  }

  dynamic "statement" {
    for_each = var.versioning ? [1] : []

    content {
      sid       = "FindVersions"
      actions   = ["s3:ListBucketVersions"]
      resources = [local.bucket_arn]

      condition {
        test     = "StringEquals"
        variable = "aws:ResourceAccount"
        values   = [local.account]
      }

      condition {
        test     = "StringLike"
        variable = "s3:prefix"
        values   = ["${local.staging_prefix}*", "${local.media_prefix}*"]
      }
    }
  }

  dynamic "statement" {
    for_each = aws_kms_key.media

    content {
      sid       = "UseKey"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value.arn]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["s3.${local.region}.${data.aws_partition.current.dns_suffix}"]
      }

      condition {
        test     = "StringEquals"
        variable = "kms:EncryptionContext:aws:s3:arn"
        values   = [local.bucket_arn]
      }
    }
  }
}

data "aws_iam_policy_document" "doctor" {
  statement {
    sid = "ReadBucketSettings"
    actions = [
      "s3:GetBucketCORS",
      "s3:GetBucketNotification",
      "s3:GetBucketOwnershipControls",
      "s3:GetBucketPolicy",
      "s3:GetBucketPublicAccessBlock",
      "s3:GetBucketVersioning",
      "s3:GetEncryptionConfiguration",
      "s3:GetLifecycleConfiguration",
    ]
    resources = [local.bucket_arn]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceAccount"
      values   = [local.account]
    }
  }

  statement {
    sid       = "ReadQueueSettings"
    actions   = ["sqs:GetQueueAttributes"]
    resources = [local.queue_arn, local.dead_arn]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceAccount"
      values   = [local.account]
    }
  }
}
