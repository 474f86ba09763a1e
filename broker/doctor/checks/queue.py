"""The checks of S3 events: the queue, its policy, the bucket's notification, and the dead letters.

Source: Amazon S3 User Guide, "Granting permissions to publish event notification messages to a destination".
"""

import json
from fnmatch import fnmatchcase
from typing import Any

from broker.doctor.checks.configuration import statements, unreadable
from broker.doctor.checks.lifecycle import STAGING
from broker.doctor.deployment import Patient, Refused, ask, sqs_client
from broker.doctor.finding import Finding, fail, ok, warn

MAX_RECEIVES = 5
ROUTE_ID = "arrived-in-staging"
CREATED = "s3:ObjectCreated:"
_CREATED = ("s3:ObjectCreated:*", "s3:ObjectCreated:Post")

SOURCE_ARN = "aws:sourcearn"
_ACCOUNTS = frozenset({"aws:sourceaccount", "aws:sourceorgid", "aws:sourceorgpaths"})
_SENT_BY_S3 = _ACCOUNTS | {SOURCE_ARN, "aws:principalisawsservice", "aws:principalservicename", "aws:securetransport"}
"""The condition keys of S3's requests to a queue, in lower case, because their names have no case."""

Attributes = dict[str, str]
Condition = dict[str, dict[str, Any]]


async def events(patient: Patient) -> list[Finding]:
    """Check the queue, its policy, the bucket's notification, and the dead letters."""
    url = patient.deployment.queue_url
    if url is None:
        return [ok("queue", "BROKER_SQS_QUEUE_URL is not set; the sweep finds unannounced uploads")]
    sqs = sqs_client(patient, await patient.keys())
    try:
        try:
            attributes = await _attributes(sqs, url)
        except Refused as refused:
            return [_no_queue(patient, url, refused)]
        arn = attributes["QueueArn"]
        return [
            ok("queue", f"{arn.rpartition(':')[2]} answers, {attributes['ApproximateNumberOfMessages']} messages wait"),
            _sender(attributes, patient),
            await _notification(arn, patient),
            await _redrive(sqs, attributes, patient),
        ]
    finally:
        sqs.close()


async def _attributes(sqs: Any, url: str) -> Attributes:
    response = await ask(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["All"])
    attributes: Attributes = response["Attributes"]
    return attributes


def _no_queue(patient: Patient, url: str, refused: Refused) -> Finding:
    name = url.rpartition("/")[2]
    if refused.is_denied:
        read = patient.aws("sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names", "All")
        return warn(
            "queue",
            f"{name} cannot be read ({refused.code})",
            cause="the keys lack sqs:GetQueueAttributes, which the broker itself does not need",
            fix=f"{read}  # with an administrator's keys",
            terraform='statement "ReadQueueSettings" in aws_iam_policy.doctor',
        )
    return fail(
        "queue",
        f"{name} does not answer ({refused.code})",
        cause="BROKER_SQS_QUEUE_URL names no queue of this account and region",
        fix=patient.aws("sqs", "create-queue", "--queue-name", name),
        terraform="aws_sqs_queue.uploads",
    )


def _sender(attributes: Attributes, patient: Patient) -> Finding:
    """Check that this bucket may send to the queue, and that not every account's buckets may."""
    document = json.loads(attributes.get("Policy") or "{}")
    allowing = [
        statement
        for statement in statements(document)
        if _lets_s3_send(statement) and _matches(statement.get("Condition", {}), patient.arn)
    ]
    is_open = [_is_for_every_account(statement.get("Condition", {})) for statement in allowing]
    if allowing and not any(is_open):
        return ok("queue policy", "lets this bucket send")
    account = attributes["QueueArn"].split(":")[4]
    statement = {
        "Sid": "AllowEventsOfTheBucket",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": attributes["QueueArn"],
        "Condition": {"ArnEquals": {"aws:SourceArn": patient.arn}, "StringEquals": {"aws:SourceAccount": account}},
    }
    # Keep a statement for another bucket, but replace one for every bucket.
    for_all = [statement for statement, opens in zip(allowing, is_open, strict=True) if opens]
    kept = [
        narrowed
        for other in statements(document)
        if (narrowed := _without_s3(other) if other in for_all else other) is not None
    ]
    added = [statement] if all(is_open) else []
    policy = {"Version": "2012-10-17", **document, "Statement": [*kept, *added]}
    fix = _set(patient, Policy=json.dumps(policy))
    if allowing:
        return warn(
            "queue policy",
            "lets the buckets of every account send",
            cause="a statement names neither a bucket nor an account, so strangers can fill the queue with events",
            fix=fix,
            terraform='statement "AllowEventsOfTheBucket" of the queue',
        )
    return fail(
        "queue policy",
        "does not let this bucket send",
        cause="no statement allows s3.amazonaws.com sqs:SendMessage for this bucket's ARN, so events are lost",
        fix=fix,
        terraform='statement "AllowEventsOfTheBucket" of the queue',
    )


def _lets_s3_send(statement: dict[str, Any]) -> bool:
    principal, action = json.dumps(statement.get("Principal", "")), json.dumps(statement.get("Action", "")).lower()
    return (
        statement.get("Effect") == "Allow"
        and ("s3.amazonaws.com" in principal or '"*"' in principal)
        and ("sqs:sendmessage" in action or "sqs:*" in action)
    )


def _matches(condition: Condition, bucket_arn: str) -> bool:
    """Return whether a condition holds for what S3 sends on behalf of the bucket; any account is taken for its own.

    Source: IAM User Guide, "AWS global condition context keys" and "IAM JSON policy elements: Condition operators".
    """
    return all(
        key.lower() in _SENT_BY_S3
        and (key.lower() != SOURCE_ARN or any(_names(operator, pattern, bucket_arn) for pattern in _several(patterns)))
        for operator, keys in condition.items()
        for key, patterns in keys.items()
    )


def _names(operator: str, pattern: str, arn: str) -> bool:
    match operator.removesuffix("IfExists"):
        case "StringEquals":
            return pattern == arn
        case "StringLike":
            return fnmatchcase(arn, pattern)
        case "ArnEquals" | "ArnLike":
            # IAM compares the six parts of an ARN one by one, so a wildcard matches no colon.
            parts, patterns = arn.split(":", 5), pattern.split(":", 5)
            return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))
        case _:
            return False


def _is_for_every_account(condition: Condition) -> bool:
    """Return whether neither an account or organization nor the name of a bucket limits the senders."""
    limits = {key.lower(): _several(patterns) for keys in condition.values() for key, patterns in keys.items()}
    is_any = any(not pattern.rpartition(":")[2].strip("*") for pattern in limits.get(SOURCE_ARN, ["*"]))
    return is_any and not limits.keys() & _ACCOUNTS


def _several(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _without_s3(statement: dict[str, Any]) -> dict[str, Any] | None:
    """Return a statement for its other services alone, or None if it names no other one."""
    principal = statement.get("Principal")
    services = principal.get("Service") if isinstance(principal, dict) else None
    others = [service for service in services if service != "s3.amazonaws.com"] if isinstance(services, list) else []
    return {**statement, "Principal": {"Service": others}} if others else None


async def _notification(queue_arn: str, patient: Patient) -> Finding:
    check = "notification"
    try:
        configuration = await patient.ask("get_bucket_notification_configuration")
    except Refused as refused:
        return unreadable(check, refused, patient, "get-bucket-notification-configuration")
    configuration.pop("ResponseMetadata", None)
    routes = configuration.get("QueueConfigurations", [])
    own = [route for route in routes if route["QueueArn"] == queue_arn and set(_CREATED) & set(route["Events"])]
    prefixes = [_rule(route, "prefix") for route in own if not _rule(route, "suffix")]  # staging keys have no suffix
    if any(prefix and STAGING.startswith(prefix) for prefix in prefixes):
        return ok(check, f"the bucket notifies the queue of uploads under {STAGING}")
    topics = [topic["TopicArn"] for topic in configuration.get("TopicConfigurations", []) if _overlaps(topic)]
    if topics and "" not in prefixes:
        return _unverified(
            f"the bucket notifies {topics[0].rpartition(':')[2]} of SNS, which has to notify the queue",
            patient.aws("sns", "list-subscriptions-by-topic", "--topic-arn", topics[0]),
        )
    if "EventBridgeConfiguration" in configuration and "" not in prefixes:
        return _unverified(
            "the bucket notifies EventBridge, which has to notify the queue",
            patient.aws("events", "list-rule-names-by-target", "--target-arn", queue_arn),
        )
    wanted = {
        "Id": ROUTE_ID,
        "QueueArn": queue_arn,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": STAGING}]}},
    }
    obstacles = [
        route
        for kind in ("QueueConfigurations", "LambdaFunctionConfigurations")
        for route in configuration.get(kind, [])
        if route.get("QueueArn") != queue_arn and _overlaps(route)
    ]
    kept = [left for route in routes if (left := _beside(route, queue_arn)) is not None]
    fix = patient.s3api(
        "put-bucket-notification-configuration",
        document=("--notification-configuration", {**configuration, "QueueConfigurations": [*kept, wanted]}),
    )
    if obstacles:
        # S3 refuses two notifications of one event: EventBridge gets all events beside those.
        return fail(
            check,
            f"the bucket notifies {_target(obstacles[0])} of uploads under {STAGING} instead",
            cause="S3 sends an event by one notification only; EventBridge or an SNS topic can send it to several",
            fix=patient.s3api(
                "put-bucket-notification-configuration",
                document=("--notification-configuration", {**configuration, "EventBridgeConfiguration": {}}),
            )
            + "  # then a rule of EventBridge that sends Object Created to the queue",
            terraform="aws_s3_bucket_notification.media",
        )
    if "" in prefixes:
        return warn(
            check,
            "the bucket notifies the queue of every object",
            cause=f"the filter does not name {STAGING}, so each promotion causes an event as well",
            fix=fix,
            terraform="aws_s3_bucket_notification.media",
        )
    detail = f"only of objects under {', '.join(prefixes)}" if prefixes else "the bucket does not notify the queue"
    return fail(
        check,
        detail,
        cause=f"no notification of s3:ObjectCreated:* under {STAGING} goes to this queue",
        fix=fix,
        terraform="aws_s3_bucket_notification.media",
    )


def _unverified(detail: str, fix: str) -> Finding:
    return warn(
        "notification",
        detail,
        cause="it cannot be verified here: the doctor reads the bucket's settings and the queue's, but no others",
        fix=f"{fix}  # should name the queue",
        terraform="aws_s3_bucket_notification.media",
    )


def _overlaps(route: dict[str, Any]) -> bool:
    """Return whether a notification is sent for an upload, so that S3 refuses another one for it."""
    prefix = _rule(route, "prefix")
    is_created = any(event.startswith(CREATED) for event in route["Events"])
    return is_created and (prefix.startswith(STAGING) or STAGING.startswith(prefix))


def _beside(route: dict[str, Any], queue_arn: str) -> dict[str, Any] | None:
    """Return what is kept of a notification beside the wanted one; None if that replaces it."""
    named = {name: value for name, value in route.items() if (name, value) != ("Id", ROUTE_ID)}  # ids are unique
    if route["QueueArn"] != queue_arn or not _overlaps(route):
        return named
    events = [event for event in route["Events"] if not event.startswith(CREATED)]
    return {**named, "Events": events} if events else None


def _target(route: dict[str, Any]) -> str:
    arn: str = route.get("QueueArn") or route["LambdaFunctionArn"]
    return arn.rpartition(":")[2]


def _rule(route: dict[str, Any], name: str) -> str:
    """Return the `prefix` or `suffix` by which a notification selects keys, or an empty text."""
    rules = route.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    return next((rule["Value"] for rule in rules if rule["Name"].lower() == name), "")


async def _redrive(sqs: Any, attributes: Attributes, patient: Patient) -> Finding:
    check = "dead letters"
    redrive = json.loads(attributes.get("RedrivePolicy") or "{}")
    dead_arn = redrive.get("deadLetterTargetArn", "")
    url = patient.deployment.queue_url or ""
    if not dead_arn:
        name = f"{attributes['QueueArn'].rpartition(':')[2]}-dead"
        arn = f"{attributes['QueueArn']}-dead"
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": str(MAX_RECEIVES)})
        create = patient.aws("sqs", "create-queue", "--queue-name", name)
        return fail(
            check,
            "the queue has no redrive policy",
            cause="a message that always fails is received again and again, and is lost after the retention period",
            fix=f"{create} && {_set(patient, RedrivePolicy=policy)}",
            terraform="aws_sqs_queue.uploads (redrive_policy) and aws_sqs_queue.dead",
        )
    try:
        dead = await _attributes(sqs, f"{url.rpartition('/')[0]}/{dead_arn.rpartition(':')[2]}")
    except Refused as refused:
        return warn(
            check,
            f"{dead_arn.rpartition(':')[2]} cannot be read ({refused.code})",
            cause="it does not exist, or the keys may not read it",
            fix=patient.aws("sqs", "get-queue-url", "--queue-name", dead_arn.rpartition(":")[2]),
            terraform="output doctor_policy_arn",
        )
    count = int(dead["ApproximateNumberOfMessages"])
    if count == 0:
        return ok(check, f"none; a message becomes one after {redrive['maxReceiveCount']} receives")
    return warn(
        check,
        f"{count} messages",
        cause="their events failed repeatedly; the worker's log has the reason",
        fix=patient.aws("sqs", "start-message-move-task", "--source-arn", dead_arn),
    )


def _set(patient: Patient, **attributes: str) -> str:
    url = patient.deployment.queue_url or ""
    return patient.aws("sqs", "set-queue-attributes", "--queue-url", url, document=("--attributes", attributes))
