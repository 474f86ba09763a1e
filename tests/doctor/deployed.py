"""A bucket and a queue as infra/terraform creates them, by the same calls, in one S3."""

import json
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from broker.aws.bucket import BucketConfig
from broker.cli.checkup import count_in_redis
from broker.dev.s3 import EmbeddedS3
from broker.doctor import Deployment, Finding, Verdict, examine
from broker.doctor.checks.configuration import encryption, ownership, public_access, transport
from broker.doctor.checks.cors import pages
from broker.doctor.checks.lifecycle import removal
from broker.doctor.checks.queue import events
from broker.doctor.deployment import opened
from broker.domain.s3.sigv4 import Credentials
from tests.support.databases import sqlite_url

PAGES = ("https://app.example", "https://admin.example")
BLOCKED = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
ABORTED = {
    "ID": "incomplete-uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
}
CLEARED = {"ID": "staging", "Status": "Enabled", "Filter": {"Prefix": "staging/"}, "Expiration": {"Days": 2}}


def page_rule(
    *origins: str, exposed: tuple[str, ...] = ("ETag", "Location"), headers: tuple[str, ...] = ("*",)
) -> dict[str, Any]:
    """Return a CORS rule for `origins`."""
    return {
        "AllowedOrigins": list(origins or PAGES),
        "AllowedMethods": ["POST", "GET", "HEAD"],
        "AllowedHeaders": list(headers),
        "ExposeHeaders": list(exposed),
        "MaxAgeSeconds": 3600,
    }


def over_tls(bucket: str) -> dict[str, Any]:
    """Return the statement of a bucket policy that refuses requests without TLS."""
    arn = f"arn:aws:s3:::{bucket}"
    return {
        "Sid": "DenyWithoutTls",
        "Effect": "Deny",
        "Principal": {"AWS": ["*"]},
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


@dataclass
class Deployed:
    """A bucket with its queue, and a doctor for it. A test spoils one of them first."""

    server: EmbeddedS3
    folder: Path
    bucket: str = field(default_factory=lambda: f"doctor-{secrets.token_hex(6)}")

    def client(self, service: str) -> Any:
        """Return a boto3 client with the server's own keys."""
        return boto3.client(
            service,
            endpoint_url=self.server.endpoint_url,
            aws_access_key_id=self.server.access_key,
            aws_secret_access_key=self.server.secret_key,
            region_name=self.server.region,
            config=Config(
                signature_version="s3v4" if service == "s3" else None,
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
            ),
        )

    def make(self) -> "Deployed":
        """Make everything as it should be."""
        self.s3, self.sqs = self.client("s3"), self.client("sqs")
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": self.server.region})
        self.set("public_access_block", PublicAccessBlockConfiguration=BLOCKED)
        self.set("bucket_ownership_controls", OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]})
        self.encrypt("AES256")
        self.set("bucket_cors", CORSConfiguration={"CORSRules": [page_rule()]})
        self.set_rules(CLEARED, ABORTED)
        self.set("bucket_policy", Policy=json.dumps({"Version": "2012-10-17", "Statement": [over_tls(self.bucket)]}))
        self.make_queue()
        self.database_url = sqlite_url(self.folder)
        return self

    def make_queue(self, *, redrive: bool = True) -> None:
        """Make the queue, anew where it is there, and let the bucket tell it what arrives."""
        dead = self.sqs.create_queue(QueueName=f"{self.bucket}-uploads-dead")["QueueUrl"]
        dead_arn = self.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.queue_arn = dead_arn.removesuffix("-dead")
        self.queue_url = dead.removesuffix("-dead")
        if self.queue_url in self.sqs.list_queues(QueueNamePrefix=self.bucket).get("QueueUrls", []):
            self.sqs.delete_queue(QueueUrl=self.queue_url)
        self.sqs.create_queue(QueueName=f"{self.bucket}-uploads")
        allowed = {
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": self.queue_arn,
            "Condition": {
                "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{self.bucket}"},
                "StringEquals": {"aws:SourceAccount": dead_arn.split(":")[4]},
            },
        }
        self.policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        aside = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": "5"})
        # Together: moto forgets a queue's policy when anything else is set alone.
        self.set_queue(Policy=self.policy, **{"RedrivePolicy": aside} if redrive else {})
        self.notify("staging/")

    def set(self, what: str, **parameters: Any) -> None:
        """Put a configuration of the bucket."""
        getattr(self.s3, f"put_{what}")(Bucket=self.bucket, **parameters)

    def remove(self, what: str) -> None:
        """Delete a configuration of the bucket."""
        getattr(self.s3, f"delete_{what}")(Bucket=self.bucket)

    def set_rules(self, *rules: dict[str, Any]) -> None:
        """Replace the lifecycle rules."""
        self.set("bucket_lifecycle_configuration", LifecycleConfiguration={"Rules": list(rules)})

    def encrypt(self, algorithm: str) -> None:
        """Set the default encryption, without a bucket key."""
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}}
        self.set("bucket_encryption", ServerSideEncryptionConfiguration={"Rules": [rule]})

    def set_queue(self, **attributes: str) -> None:
        """Set attributes of the queue."""
        self.sqs.set_queue_attributes(QueueUrl=self.queue_url, Attributes=attributes)

    def notify(self, prefix: str | None) -> None:
        """Let the bucket tell the queue what arrives under `prefix`; None: nothing."""
        rules = [{"Name": "prefix", "Value": prefix}]
        route = {"Id": "arrived", "QueueArn": self.queue_arn, "Events": ["s3:ObjectCreated:*"]}
        route |= {"Filter": {"Key": {"FilterRules": rules}}} if prefix else {}
        routes = [] if prefix is None else [route]
        self.set("bucket_notification_configuration", NotificationConfiguration={"QueueConfigurations": routes})

    @property
    def deployment(self) -> Deployment:
        """Return what the settings of a broker on it would say."""
        return Deployment(
            bucket=BucketConfig(
                name=self.bucket,
                region=self.server.region,
                endpoint_url=self.server.endpoint_url,
                path_style=True,
                credentials=Credentials(self.server.access_key, self.server.secret_key),
                timeout_seconds=5,
            ),
            content_type="video/mp4",
            page_origins=PAGES,
            database_url=self.database_url,
            count_in_redis=count_in_redis,
            queue_url=self.queue_url,
            sqs_endpoint_url=self.server.endpoint_url,
        )

    async def examine(self, *, bucket: dict[str, Any] | None = None, **changes: Any) -> list[Finding]:
        """Examine it, with other settings where named."""
        deployment = self.deployment
        return await examine(replace(deployment, bucket=replace(deployment.bucket, **bucket or {}), **changes))

    async def look(self, **changes: Any) -> list[Finding]:
        """Read how bucket and queue are set up, with other settings where named, without the trial."""
        async with opened(replace(self.deployment, **changes)) as patient:
            found = [await check(patient) for check in (public_access, ownership, encryption, transport)]
            return [*found, *await removal(patient), *await pages(patient), *await events(patient)]

    def leftovers(self) -> list[str]:
        """Return the keys of all versions, delete markers and unfinished uploads in the bucket."""
        found = self.s3.list_object_versions(Bucket=self.bucket)
        parts = self.s3.list_multipart_uploads(Bucket=self.bucket)
        lists = [*(found.get(kind, []) for kind in ("Versions", "DeleteMarkers")), parts.get("Uploads", [])]
        return [entry["Key"] for entries in lists for entry in entries]


def unhealthy(findings: list[Finding]) -> dict[str, Finding]:
    """Return the unhealthy findings, by the name of their check."""
    return {finding.check: finding for finding in findings if finding.verdict is not Verdict.OK}
