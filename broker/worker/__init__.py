"""The background jobs: the sweep, S3 events, and webhooks."""
