output "environment" {
  description = "The broker's environment, without secrets: SECRET_KEY and BROKER_DATABASE_URL come from your secret store."
  value = {
    USE_CLOUD_STORAGE      = "true"
    CLOUD_STORAGE_PROVIDER = "aws"
    AWS_S3_BUCKET_NAME     = aws_s3_bucket.media.id
    AWS_S3_REGION          = local.region
    BROKER_SQS_QUEUE_URL   = aws_sqs_queue.uploads.url
  }
}

output "signer_policy_arn" {
  description = "Attach to the role of `broker serve`."
  value       = aws_iam_policy.signer.arn
}

output "worker_policy_arn" {
  description = "Attach to the role of `broker worker`."
  value       = aws_iam_policy.worker.arn
}

output "doctor_policy_arn" {
  description = "Attach to the role that runs `broker doctor`, together with the signer's policy."
  value       = aws_iam_policy.doctor.arn
}

output "bucket_arn" {
  description = "The bucket."
  value       = aws_s3_bucket.media.arn
}

output "dead_letter_queue_url" {
  description = "The queue of events that failed repeatedly."
  value       = aws_sqs_queue.dead.url
}

output "cloudfront_domain" {
  description = "The host of playback links, if CloudFront is used."
  value       = one(aws_cloudfront_distribution.media[*].domain_name)
}

output "cloudfront_key_ids" {
  description = "The id of each public key, by its name; a link names it as Key-Pair-Id."
  value       = { for name, key in aws_cloudfront_public_key.playback : name => key.id }
}
