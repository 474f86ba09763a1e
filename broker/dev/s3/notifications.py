"""Notification configurations: which events of a bucket go to which queues.

Source: Amazon S3 API Reference, "PutBucketNotificationConfiguration".
"""

import re
from xml.etree.ElementTree import Element

from broker.dev.s3.documents import children, parse_xml, text
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.services import Services

_OTHER_DESTINATIONS = ("TopicConfiguration", "CloudFunctionConfiguration", "EventBridgeConfiguration")
_ARN = re.compile(r"arn:[\w-]+:[\w-]+:[\w-]*:[0-9]*:.+", re.ASCII)
_EVENT = re.compile(
    r"s3:(ObjectCreated:(\*|Put|Post|Copy|CompleteMultipartUpload)"
    r"|ObjectRemoved:(\*|Delete|DeleteMarkerCreated)"
    r"|(TestEvent|ReducedRedundancyLostObject|ObjectAcl:Put|IntelligentTiering)"
    r"|(ObjectRestore|ObjectTagging|Replication|LifecycleTransition|LifecycleExpiration)(:[\w*]+)?)",
    re.ASCII,
)


def check(services: Services, body: bytes, *, validate_destinations: bool) -> None:
    """Refuse a configuration that S3 would refuse, and one with a destination other than a queue."""
    root = parse_xml(body, "NotificationConfiguration")
    queues = list(children(root, "QueueConfiguration"))
    arns = [text(queue, "Queue") for queue in queues]
    for arn in arns:
        if not _ARN.fullmatch(arn):
            raise invalid_argument("The ARN could not be parsed", "Queue", arn)
    for name in _OTHER_DESTINATIONS:
        if next(children(root, name), None) is not None:
            raise S3Error("NotImplemented", Header=name)
    for queue in queues:
        _check_events(queue)
        _check_filter(queue)
    if validate_destinations:
        _check_destinations(services, arns)


def _check_events(queue: Element) -> None:
    events = [event.text or "" for event in children(queue, "Event")]
    if not events:
        raise S3Error("MalformedXML")
    for event in events:
        if not _EVENT.fullmatch(event):
            raise invalid_argument("A specified event is not supported for notifications.", "Event", event)


def _check_filter(queue: Element) -> None:
    rules = [
        rule
        for filter_element in children(queue, "Filter")
        for key in children(filter_element, "S3Key")
        for rule in children(key, "FilterRule")
    ]
    names = []
    for rule in rules:
        name, _ = text(rule, "Name"), text(rule, "Value")
        if name.lower() not in ("prefix", "suffix"):
            raise invalid_argument("filter rule name must be either prefix or suffix", "FilterRule.Name", name)
        names.append(name.lower())
    for name in ("prefix", "suffix"):
        if names.count(name) > 1:
            message = f"Cannot specify more than one {name} rule in a filter."
            raise invalid_argument(message, "FilterRule.Name", name)


def _check_destinations(services: Services, arns: list[str]) -> None:
    absent = [arn for arn in arns if not services.has_queue(arn)]
    if not absent:
        return
    error = S3Error("InvalidArgument", "Unable to validate the following destination configurations")
    for number, arn in enumerate(absent, 1):
        error.elements[f"ArgumentName{number}"] = arn
        error.elements[f"ArgumentValue{number}"] = "The destination queue does not exist"
    raise error
