"""S3's three event envelopes, and invalid messages."""

import json
from typing import Any

import pytest

from broker.worker.envelopes import Created, EnvelopeUnknown, created_objects
from tests.worker.s3_events import direct, record

KEY = "staging/a3/x y+ü.mp4"
WANTED = [Created("videos", KEY)]


def by_sns(message: object) -> dict[str, Any]:
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-central-1:1:up", "Message": json.dumps(message)}


def by_eventbridge(kind: str = "Object Created") -> dict[str, Any]:
    return {
        "version": "0",
        "detail-type": kind,
        "source": "aws.s3",
        "detail": {
            "bucket": {"name": "videos"},
            "object": {"key": KEY, "size": 10, "sequencer": "00617F08299329D189"},
            "reason": "PostObject",
        },
    }


TEST_EVENT = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "videos"}


@pytest.mark.parametrize(
    ("document", "created"),
    [
        (direct(record()), WANTED),
        (direct(record("s3:ObjectCreated:CompleteMultipartUpload")), WANTED),
        (direct(record(), record(key="b")), [*WANTED, Created("videos", "b")]),
        (direct(record("ObjectRemoved:Delete")), []),
        (direct(), []),
        (by_sns(direct(record())), WANTED),
        (by_eventbridge(), WANTED),
        (by_sns(by_eventbridge()), WANTED),
        (by_eventbridge("Object Deleted"), []),
        (TEST_EVENT, []),
        (by_sns(TEST_EVENT), []),
    ],
)
def test_each_envelope_names_the_created_objects(document: object, created: list[Created]) -> None:
    assert created_objects(json.dumps(document)) == created


@pytest.mark.parametrize(
    "body",
    [
        "",
        "hello",
        "null",
        "[]",
        "[" * 100_000,
        '{"Records": {}, "Records": 7}',
        '{"Records": [{}]}',
        json.dumps(direct(record(key=None))),  # type: ignore[arg-type]
        '{"Records": [{"eventName": "ObjectCreated:Put", "s3": null}]}',
        '{"Type": "Notification"}',
        '{"Type": "Notification", "Message": "hello"}',
        '{"Type": "SubscriptionConfirmation", "Message": "You have chosen to subscribe"}',
        '{"source": "aws.s3", "detail-type": "Object Created"}',
        '{"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification"}',
    ],
)
def test_garbage_differs_from_an_event_without_objects(body: str) -> None:
    with pytest.raises(EnvelopeUnknown):
        created_objects(body)


@pytest.mark.parametrize(("body", "reason"), [("hello", "JSONDecodeError"), ("[]", "TypeError"), ("{}", "no envelope")])
def test_the_reason_holds_no_part_of_the_message(body: str, reason: str) -> None:
    with pytest.raises(EnvelopeUnknown, match=f"^{reason}$"):
        created_objects(body)
