"""An S3 for development and tests that refuses what AWS refuses.

It enforces signatures, policies and conditions itself, and stores objects on disk. moto serves the rest: the
configuration of buckets, SQS, SNS, STS and IAM. Every region requires Signature Version 4, as AWS's newer regions do.
Lifecycle rules, bucket policies and ACLs are kept, but not carried out, and the log says so: a bucket is private, and
each user with a known key may do everything.
"""

from broker.dev.s3.faults import Fault
from broker.dev.s3.keyring import Session, random_key, read_keys
from broker.dev.s3.server import EmbeddedS3, rest, start_embedded_s3

__all__ = ["EmbeddedS3", "Fault", "Session", "random_key", "read_keys", "rest", "start_embedded_s3"]
