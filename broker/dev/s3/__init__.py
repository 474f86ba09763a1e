"""An S3 for development and tests that refuses what AWS refuses.

It enforces signatures, policies and conditions itself, and keeps objects on disk; moto answers for all else
(the configuration of buckets, SQS, SNS, STS and IAM). In every region it takes Signature Version 4 alone, as AWS
does in the newer ones. Lifecycle rules, bucket policies and ACLs are kept but not carried out: a bucket is
private, and whoever signs with a known key may do all.
"""

from broker.dev.s3.faults import Fault
from broker.dev.s3.keyring import Session, read_keys
from broker.dev.s3.server import EmbeddedS3, rest, start_embedded_s3

__all__ = ["EmbeddedS3", "Fault", "Session", "read_keys", "rest", "start_embedded_s3"]
