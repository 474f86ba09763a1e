"""The parser of S3 event messages: the created objects that a message names, in any of its three envelopes.

A bucket notifies a queue directly, through an SNS topic, or through EventBridge. Sources: Amazon S3 User Guide, "Event
message structure" and "EventBridge event message structure"; Amazon SNS Developer Guide, "Fanout to Amazon SQS queues".
"""

import json
from typing import Any, NamedTuple
from urllib.parse import unquote_plus


class Created(NamedTuple):
    """An object that a message names as created. Only a HEAD can confirm that it exists."""

    bucket: str
    key: str


class EnvelopeUnknown(ValueError):
    """The message has none of the three envelopes; a retry cannot help."""


def created_objects(body: str) -> list[Created]:
    """Return the objects that a message's body names as created; none for a test message or another kind of event.

    Raises EnvelopeUnknown.
    """
    try:
        document = _object(json.loads(body))
        if document.get("Type") == "Notification":
            document = _object(json.loads(document["Message"]))
        if "Records" in document:
            return [_of_record(record) for record in document["Records"] if _creates(record)]
        if document.get("source") == "aws.s3":
            return [_of_detail(document["detail"])] if document["detail-type"] == "Object Created" else []
        if document.get("Event") == "s3:TestEvent":
            return []
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EnvelopeUnknown(type(error).__name__) from error
    raise EnvelopeUnknown("no envelope")


def _creates(record: dict[str, Any]) -> bool:
    event: str = _text(record["eventName"])
    return event.removeprefix("s3:").startswith("ObjectCreated:")


def _of_record(record: dict[str, Any]) -> Created:
    # S3 encodes the key like a form value.
    return Created(_text(record["s3"]["bucket"]["name"]), unquote_plus(_text(record["s3"]["object"]["key"])))


def _of_detail(detail: dict[str, Any]) -> Created:
    # EventBridge does not encode the key.
    return Created(_text(detail["bucket"]["name"]), _text(detail["object"]["key"]))


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise TypeError
    return document


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
