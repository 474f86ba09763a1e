"""Pure: which objects a message says were created, in whichever of three envelopes.

A bucket tells a queue directly, through an SNS topic, or through EventBridge. Sources: Amazon S3 User Guide, "Event
message structure" and "EventBridge event message structure"; Amazon SNS Developer Guide, "Fanout to Amazon SQS queues".
"""

import json
from typing import Any, NamedTuple
from urllib.parse import unquote_plus


class Created(NamedTuple):
    """Name an object of which a message says that it was created; whether it is there, only a HEAD tells."""

    bucket: str
    key: str


class EnvelopeUnknown(ValueError):
    """The message has none of the three envelopes, so that nobody will ever understand it."""


def created_objects(body: str) -> list[Created]:
    """Return the objects that a message's body names as created: none for a test or for another kind of event.

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
    # S3 itself encodes a key like a form's value.
    return Created(_text(record["s3"]["bucket"]["name"]), unquote_plus(_text(record["s3"]["object"]["key"])))


def _of_detail(detail: dict[str, Any]) -> Created:
    # EventBridge passes a key on as it is.
    return Created(_text(detail["bucket"]["name"]), _text(detail["object"]["key"]))


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise TypeError
    return document


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
