"""Parts for development only: the embedded S3 and the demo console."""
