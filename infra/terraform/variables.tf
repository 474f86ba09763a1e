variable "bucket_name" {
  description = "Name of the bucket that takes the uploads and keeps the media. Queue, policies and alarms are named after it."
  type        = string

  validation {
    # A dot would break TLS: the certificate of *.s3.REGION.amazonaws.com covers one label.
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,52}[a-z0-9]$", var.bucket_name))
    error_message = "The bucket name should be 3 to 54 lower-case letters, digits and hyphens, without dots."
  }
}

variable "allowed_origins" {
  description = "Origins whose pages upload to the bucket and play from it, such as https://app.example. Exact: no wildcard, no path."
  type        = list(string)

  validation {
    condition     = length(var.allowed_origins) > 0
    error_message = "At least one origin should be named: without CORS no browser can upload."
  }

  validation {
    condition = alltrue([
      for origin in var.allowed_origins :
      can(regex("^(https://[a-z0-9][a-z0-9.-]*|http://(localhost|127\\.0\\.0\\.1))(:[0-9]{1,5})?$", origin))
    ])
    error_message = "An origin should be https://host or https://host:port (http only for localhost), without a path or *."
  }
}

variable "encryption" {
  description = "How objects are encrypted at rest: `sse-s3`, S3's own keys at no cost, or `sse-kms`, a key of yours that this module makes (with bucket keys)."
  type        = string
  default     = "sse-s3"

  validation {
    condition     = contains(["sse-s3", "sse-kms"], var.encryption)
    error_message = "The encryption should be sse-s3 or sse-kms."
  }
}

variable "versioning" {
  description = "Whether the bucket keeps what others overwrite or delete. The broker never overwrites media, and its own deletions remove all versions."
  type        = bool
  default     = false
}

variable "noncurrent_days" {
  description = "With versioning: after how many days a noncurrent version of a media ends."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "The days should be a whole number of at least 1."
  }
}

variable "staging_days" {
  description = "After how many days whatever is left under `staging/` ends. The broker removes it itself long before; this is the net below. It must exceed the longest time that both worker and clients may be away."
  type        = number
  default     = 1

  validation {
    condition     = var.staging_days >= 1 && floor(var.staging_days) == var.staging_days
    error_message = "The days should be a whole number of at least 1: S3 counts no less."
  }
}

variable "force_destroy" {
  description = "Whether `terraform destroy` may delete a bucket that still holds media. For trials only."
  type        = bool
  default     = false
}

variable "visibility_seconds" {
  description = "For how long a message belongs to the worker that received it. At least the lease of a promotion, 120 seconds."
  type        = number
  default     = 180

  validation {
    condition     = var.visibility_seconds >= 120 && var.visibility_seconds <= 43200
    error_message = "The visibility should be 120 to 43200 seconds."
  }
}

variable "max_receives" {
  description = "After how many receipts without success SQS moves a message to the dead-letter queue."
  type        = number
  default     = 5

  validation {
    condition     = var.max_receives >= 2 && var.max_receives <= 1000
    error_message = "The receipts should be 2 to 1000."
  }
}

variable "oldest_message_seconds" {
  description = "The age of the queue's oldest message above which the alarm goes off."
  type        = number
  default     = 300

  validation {
    condition     = var.oldest_message_seconds >= 60
    error_message = "The age should be at least 60 seconds: S3 itself may take that long to send an event."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics that are told when an alarm goes off and when it ends. Empty: the alarms only show in CloudWatch."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[^*]+$", arn))])
    error_message = "Each topic should be the ARN of an SNS topic."
  }
}

variable "cloudfront" {
  description = <<-EOT
    Serve playback through CloudFront: the public half (PEM) of the key pair that signs its links, the price class, and
    a host of your own with its certificate in us-east-1. null: links lead to S3 itself. Several keys may be trusted at
    once, each under a name of yours; so they are rotated.
  EOT
  type = object({
    public_keys_pem = map(string)
    price_class     = optional(string, "PriceClass_100")
    aliases         = optional(list(string), [])
    certificate_arn = optional(string)
  })
  default = null

  validation {
    condition = var.cloudfront == null ? true : (
      length(var.cloudfront.public_keys_pem) > 0 &&
      alltrue([for pem in values(var.cloudfront.public_keys_pem) : startswith(trimspace(pem), "-----BEGIN PUBLIC KEY-----")])
    )
    error_message = "CloudFront should get at least one public key, in PEM."
  }

  validation {
    condition     = var.cloudfront == null ? true : contains(["PriceClass_100", "PriceClass_200", "PriceClass_All"], var.cloudfront.price_class)
    error_message = "The price class should be PriceClass_100, PriceClass_200 or PriceClass_All."
  }

  validation {
    condition     = var.cloudfront == null ? true : (length(var.cloudfront.aliases) > 0) == (var.cloudfront.certificate_arn != null)
    error_message = "Aliases and the certificate that covers them should be given together."
  }
}

variable "tags" {
  description = "Tags for everything that can carry them."
  type        = map(string)
  default     = {}
}
