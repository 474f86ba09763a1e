variable "region" {
  description = "The AWS region of all resources."
  type        = string
}

variable "name" {
  description = "The name of the service, and the prefix of its resources' names."
  type        = string
  default     = "media-broker"
}

variable "image" {
  description = "The broker's image, by digest: registry/name@sha256:…"
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image must be named by its digest: a tag can change under a running service."
  }
}

variable "bucket_name" {
  description = "The bucket for uploads and media."
  type        = string
}

variable "allowed_origins" {
  description = "Origins of the pages that upload and play."
  type        = list(string)
}

variable "hostname" {
  description = "The host name by which clients reach the broker, such as media.app.example. Point its DNS at the output `load_balancer`."
  type        = string
}

variable "certificate_arn" {
  description = "The ACM certificate of that host."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "public_subnet_ids" {
  description = "Subnets of at least two zones, with a route to the internet, for the load balancer."
  type        = list(string)

  validation {
    condition     = length(var.public_subnet_ids) >= 2
    error_message = "public_subnet_ids must name subnets in two zones: a load balancer needs them."
  }
}

variable "private_subnet_ids" {
  description = "Subnets of at least two zones for tasks and database. They reach S3, SQS, ECR, Secrets Manager and CloudWatch through VPC endpoints or a NAT."
  type        = list(string)

  validation {
    condition     = length(var.private_subnet_ids) >= 2
    error_message = "private_subnet_ids must name subnets in two zones: the database needs them."
  }
}

variable "replicas" {
  description = "The least and the greatest number of replicas of `broker serve`."
  type        = object({ min = number, max = number })
  default     = { min = 2, max = 10 }

  validation {
    condition     = var.replicas.min >= 2 && var.replicas.max >= var.replicas.min
    error_message = "replicas.min must be at least 2, so that one may fail, and replicas.max at least replicas.min."
  }
}

variable "database_class" {
  description = "The instance class of PostgreSQL; infra/scale.py computes the cores for a load."
  type        = string
  default     = "db.m7g.large"
}

variable "database_gigabytes" {
  description = "The initial size of the database's disk, in GB; it grows by itself up to ten times that."
  type        = number
  default     = 50
}

variable "alarm_topic_arns" {
  description = "SNS topics to notify of alarms."
  type        = list(string)
  default     = []
}

variable "collector_security_group_ids" {
  description = "Security groups of the collectors that scrape /metrics of the tasks, such as your Prometheus: port 8000 of `serve`, 9100 of `worker`."
  type        = list(string)
  default     = []
}
