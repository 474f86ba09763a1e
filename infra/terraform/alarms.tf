# Two signs that completion by events has stopped: no worker reads the queue, or its messages fail.

resource "aws_cloudwatch_metric_alarm" "oldest_message" {
  alarm_name          = "${local.queue_name}-oldest-message"
  alarm_description   = "The oldest upload event has waited too long. Check that `broker worker` is running and can reach S3 and the database."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.uploads.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.oldest_message_seconds
  period              = 60
  evaluation_periods  = 3
  # SQS reports no metrics for a queue that was idle for hours.
  treat_missing_data = "notBreaching"
  alarm_actions      = var.alarm_topic_arns
  ok_actions         = var.alarm_topic_arns
  tags               = var.tags
}

resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  alarm_name          = "${local.queue_name}-dead-letters"
  alarm_description   = "Upload events failed repeatedly: read the dead-letter queue and the worker's log, then redrive it."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
}
