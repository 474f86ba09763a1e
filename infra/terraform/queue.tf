# S3 notifies the worker of uploads. Events are hints: the worker inspects each object itself, and the sweep finds uploads
# without an event.

resource "aws_sqs_queue" "uploads" {
  name                       = local.queue_name
  visibility_timeout_seconds = 180 # for other readers, such as the AWS console; the worker sends its own when it receives
  message_retention_seconds  = 4 * 24 * 3600
  receive_wait_time_seconds  = 20
  sqs_managed_sse_enabled    = true
  tags                       = var.tags

  policy = data.aws_iam_policy_document.queue.json

  redrive_policy = jsonencode({
    deadLetterTargetArn = local.dead_arn
    maxReceiveCount     = var.max_receives
  })

  depends_on = [aws_sqs_queue.dead]
}

resource "aws_sqs_queue" "dead" {
  name                      = local.dead_name
  message_retention_seconds = 14 * 24 * 3600
  sqs_managed_sse_enabled   = true
  tags                      = var.tags

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [local.queue_arn]
  })
}

data "aws_iam_policy_document" "queue" {
  statement {
    sid       = "AllowEventsOfTheBucket"
    actions   = ["sqs:SendMessage"]
    resources = [local.queue_arn]

    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [local.bucket_arn]
    }

    # A bucket name can pass to another account; the account id stays.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }

  statement {
    sid       = "DenyWithoutTls"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [local.queue_arn]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}
