# Optional: playback through CloudFront. Only links signed by a key of the key group are served, and the bucket answers
# only this distribution.

resource "aws_cloudfront_origin_access_control" "media" {
  count = local.with_cloudfront ? 1 : 0

  name                              = var.bucket_name
  description                       = "Signs CloudFront's requests to ${var.bucket_name}"
  origin_access_control_origin_type = "s3"
  signing_behavior                  = "always"
  signing_protocol                  = "sigv4"
}

resource "aws_cloudfront_public_key" "playback" {
  for_each = local.with_cloudfront ? var.cloudfront.public_keys_pem : {}

  name        = "${var.bucket_name}-${each.key}"
  comment     = "Verifies playback links"
  encoded_key = "${trimspace(each.value)}\n"

  # CloudFront keeps a key that a key group lists, so a removed one is deleted after the group's update.
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudfront_key_group" "playback" {
  count = local.with_cloudfront ? 1 : 0

  name    = var.bucket_name
  comment = "Verifies playback links"
  items   = [for key in aws_cloudfront_public_key.playback : key.id]
}

resource "aws_cloudfront_cache_policy" "media" {
  count = local.with_cloudfront ? 1 : 0

  # Media never change under their key, but a deleted one should end soon at the edge, too. After this time CloudFront
  # asks S3 with If-None-Match, which sends no bytes again.
  name        = var.bucket_name
  comment     = "Media are deleted at the edge within minutes"
  min_ttl     = 1
  default_ttl = 300
  max_ttl     = 300

  parameters_in_cache_key_and_forwarded_to_origin {
    # Media are compressed already.
    enable_accept_encoding_brotli = false
    enable_accept_encoding_gzip   = false

    cookies_config {
      cookie_behavior = "none"
    }

    headers_config {
      header_behavior = "none"
    }

    # Names the file of a download for S3.
    query_strings_config {
      query_string_behavior = "whitelist"

      query_strings {
        items = ["response-content-disposition"]
      }
    }
  }
}

resource "aws_cloudfront_response_headers_policy" "media" {
  count = local.with_cloudfront ? 1 : 0

  name    = var.bucket_name
  comment = "CORS for the origins that may play, independent of the cache"

  cors_config {
    access_control_allow_credentials = false
    origin_override                  = true

    access_control_allow_origins {
      items = var.allowed_origins
    }

    access_control_allow_methods {
      items = ["GET", "HEAD"]
    }

    access_control_allow_headers {
      items = ["Range"]
    }

    access_control_expose_headers {
      items = ["ETag"]
    }

    access_control_max_age_sec = 3600
  }

  security_headers_config {
    content_type_options {
      override = true
    }

    strict_transport_security {
      access_control_max_age_sec = 31536000
      include_subdomains         = true
      preload                    = true
      override                   = true
    }
  }
}

resource "aws_cloudfront_distribution" "media" {
  # checkov:skip=CKV_AWS_68: Every path needs a signed link, so a firewall has little to judge; attach yours by web_acl_id.
  # checkov:skip=CKV2_AWS_47: There is no program behind the distribution, only S3.
  # checkov:skip=CKV_AWS_86: Logs of each played range cost more than they tell by default; add logging_config for a bucket of yours.
  # checkov:skip=CKV_AWS_374: Who may play is decided by the application that hands out the links, not by country.
  # checkov:skip=CKV_AWS_310: The objects are in one bucket; there is no second origin.
  # checkov:skip=CKV_AWS_305: There is no page, and the root is no object.
  count = local.with_cloudfront ? 1 : 0

  comment             = "Playback of ${var.bucket_name}"
  enabled             = true
  is_ipv6_enabled     = true
  http_version        = "http2and3"
  price_class         = var.cloudfront.price_class
  aliases             = var.cloudfront.aliases
  wait_for_deployment = false
  tags                = var.tags

  origin {
    origin_id                = "bucket"
    domain_name              = aws_s3_bucket.media.bucket_regional_domain_name
    origin_access_control_id = aws_cloudfront_origin_access_control.media[0].id
  }

  default_cache_behavior {
    target_origin_id           = "bucket"
    allowed_methods            = ["GET", "HEAD"]
    cached_methods             = ["GET", "HEAD"]
    viewer_protocol_policy     = "https-only"
    cache_policy_id            = aws_cloudfront_cache_policy.media[0].id
    response_headers_policy_id = aws_cloudfront_response_headers_policy.media[0].id
    trusted_key_groups         = [aws_cloudfront_key_group.playback[0].id]
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  viewer_certificate {
    cloudfront_default_certificate = var.cloudfront.certificate_arn == null
    acm_certificate_arn            = var.cloudfront.certificate_arn
    ssl_support_method             = var.cloudfront.certificate_arn == null ? null : "sni-only"
    minimum_protocol_version       = var.cloudfront.certificate_arn == null ? null : "TLSv1.2_2021"
  }
}
