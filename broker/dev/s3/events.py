"""Event messages: published to the queues of a bucket's notification configuration.

Source: Amazon S3 User Guide, "Event message structure".
"""

import json
from urllib.parse import quote_plus

from broker.dev.s3.clock import Clock, iso8601_milliseconds
from broker.dev.s3.objects import NULL_VERSION, ObjectVersion
from broker.dev.s3.services import Services


def publish(services: Services, clock: Clock, event: str, bucket: str, version: ObjectVersion) -> None:
    """Send an event such as `ObjectCreated:Post` to every queue whose configuration matches it."""
    for notification in services.notifications(bucket):
        if notification.matches(f"s3:{event}", version.key):
            record = _record(services.region, clock, event, bucket, version, notification.id)
            services.send(notification.queue_arn, json.dumps({"Records": [record]}))


def _record(
    region: str, clock: Clock, event: str, bucket: str, version: ObjectVersion, configuration_id: str
) -> dict[str, object]:
    facts: dict[str, object] = {"key": quote_plus(version.key, safe="/"), "sequencer": version.sequencer}
    if event.startswith("ObjectCreated:"):
        facts |= {"size": version.size, "eTag": version.etag}
    if version.version_id != NULL_VERSION:
        facts["versionId"] = version.version_id
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": iso8601_milliseconds(clock.now()),
        "eventName": event,
        "userIdentity": {"principalId": "AWS:EMBEDDED"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": version.sequencer, "x-amz-id-2": version.sequencer},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration_id,
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": "EMBEDDED"},
                "arn": f"arn:aws:s3:::{bucket}",
            },
            "object": facts,
        },
    }
