"""AWS: the session and its credentials, the bucket, the event queue, and signed CloudFront links."""
