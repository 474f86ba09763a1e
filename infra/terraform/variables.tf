variable "bucket_name" {
  description = "Name of the bucket for uploads and media. Queue, policies and alarms are named after it."
  type        = string

  validation {
    # A dot would break TLS: the certificate of *.s3.REGION.amazonaws.com covers one label.
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,52}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name must be 3 to 54 lower-case letters, digits and hyphens, without dots."
  }
}

variable "allowed_origins" {
  description = "Origins whose pages upload to the bucket and play from it, such as https://app.example. Also capacitor://localhost and the like for hybrid apps, and https://*.preview.example for the pages below a domain of yours."
  type        = list(string)

  validation {
    condition     = length(var.allowed_origins) > 0
    error_message = "allowed_origins must name at least one origin: without CORS no browser can upload."
  }

  validation {
    condition = alltrue([
      for origin in var.allowed_origins :
      can(regex("^(https://[a-z0-9][a-z0-9.-]*|https://\\*(\\.[a-z0-9][a-z0-9-]*){2,}|http://(localhost|127\\.0\\.0\\.1))(:[0-9]{1,5})?$", origin)) ||
      (can(regex("^[a-z][a-z0-9+.-]*://[a-z0-9._-]+$", origin)) && !can(regex("^(about|blob|data|file|ftp|https?|javascript|wss?):", origin)))
    ])
    error_message = "Each of allowed_origins must be https://host or https://host:port (http only for localhost) without a path, an app's origin such as capacitor://localhost, or a pattern such as https://*.preview.example."
  }
}

variable "encryption" {
  description = "Encryption at rest: `sse-s3`, S3's own keys at no cost, or `sse-kms`, a KMS key that this module creates (with bucket keys)."
  type        = string
  default     = "sse-s3"

  validation {
    condition     = contains(["sse-s3", "sse-kms"], var.encryption)
    error_message = "encryption must be sse-s3 or sse-kms."
  }
}

variable "versioning" {
  description = "Whether the bucket keeps versions that other programs overwrite or delete. The broker never overwrites media, and its own deletions remove all versions."
  type        = bool
  default     = false
}

variable "noncurrent_days" {
  description = "With versioning: the days after which a noncurrent version of a media is removed."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days must be a whole number of at least 1."
  }
}

variable "staging_days" {
  description = "The days after which objects under `staging/` are removed. This is a safety net: the broker removes them long before. It must exceed BROKER_RESUMABLE_SECONDS, and the longest time during which neither worker nor clients may be running."
  type        = number
  default     = 2

  validation {
    condition     = var.staging_days >= 1 && floor(var.staging_days) == var.staging_days
    error_message = "staging_days must be a whole number of at least 1: S3 counts whole days."
  }
}

variable "tag_objects" {
  description = "Whether the broker may tag objects; needed if BROKER_OBJECT_TAGS is set."
  type        = bool
  default     = false
}

variable "force_destroy" {
  description = "Whether `terraform destroy` may delete a bucket that still holds media. For trials only."
  type        = bool
  default     = false
}

variable "max_receives" {
  description = "The number of failed receives after which SQS moves a message to the dead-letter queue."
  type        = number
  default     = 5

  validation {
    condition     = var.max_receives >= 2 && var.max_receives <= 1000
    error_message = "max_receives must be 2 to 1000."
  }
}

variable "oldest_message_seconds" {
  description = "The age of the queue's oldest message, in seconds, above which the alarm fires."
  type        = number
  default     = 300

  validation {
    condition     = var.oldest_message_seconds >= 60
    error_message = "oldest_message_seconds must be at least 60: S3 itself may take that long to send an event."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics to notify when an alarm fires and when it clears. If empty, the alarms only show in CloudWatch."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[^*]+$", arn))])
    error_message = "Each of alarm_topic_arns must be the ARN of an SNS topic."
  }
}

variable "cloudfront" {
  description = <<-EOT
    Serve playback through CloudFront: the public half (PEM) of the key pair that signs its links, the price class, and
    your own host with its certificate in us-east-1. If null, links lead to S3 itself. To rotate keys, several may be
    trusted at once, each under a name of your choice.
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
    error_message = "cloudfront.public_keys_pem must hold at least one public key, in PEM."
  }

  validation {
    condition     = var.cloudfront == null ? true : contains(["PriceClass_100", "PriceClass_200", "PriceClass_All"], var.cloudfront.price_class)
    error_message = "cloudfront.price_class must be PriceClass_100, PriceClass_200 or PriceClass_All."
  }

  validation {
    condition     = var.cloudfront == null ? true : (length(var.cloudfront.aliases) > 0) == (var.cloudfront.certificate_arn != null)
    error_message = "cloudfront.aliases and cloudfront.certificate_arn, which covers them, must be set together."
  }
}

variable "tags" {
  description = "Tags for every resource that supports them."
  type        = map(string)
  default     = {}
}
