"""An S3 for development and tests that refuses what AWS refuses.

It enforces signatures, policies and conditions itself, and keeps objects on disk; moto answers for all else.
"""

from broker.dev.s3.faults import Fault
from broker.dev.s3.keyring import Session
from broker.dev.s3.server import EmbeddedS3, start_embedded_s3

__all__ = ["EmbeddedS3", "Fault", "Session", "start_embedded_s3"]
