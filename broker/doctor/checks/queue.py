"""The checks of S3 events: the queue, its policy, the bucket's notification, and the dead letters.

Source: Amazon S3 User Guide, "Granting permissions to publish event notification messages to a destination".
"""

import json
from typing import Any

from broker.doctor.checks.configuration import statements, unreadable
from broker.doctor.checks.lifecycle import STAGING
from broker.doctor.deployment import Patient, Refused, ask, sqs_client
from broker.doctor.finding import Finding, fail, ok, warn

MAX_RECEIVES = 5
ROUTE_ID = "arrived-in-staging"
CREATED = "s3:ObjectCreated:"
_CREATED = ("s3:ObjectCreated:*", "s3:ObjectCreated:Post")

Attributes = dict[str, str]


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
        return fail(
            "queue",
            f"{name} cannot be read ({refused.code})",
            cause="the keys lack sqs:GetQueueAttributes",
            fix=patient.aws("sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names", "All"),
            terraform='statement "ReceiveEvents" in aws_iam_policy.worker',
        )
    return fail(
        "queue",
        f"{name} does not answer ({refused.code})",
        cause="BROKER_SQS_QUEUE_URL names no queue of this account and region",
        fix=patient.aws("sqs", "create-queue", "--queue-name", name),
        terraform="aws_sqs_queue.uploads",
    )


def _sender(attributes: Attributes, patient: Patient) -> Finding:
    """Check that this bucket, and no other one, may send to the queue."""
    document = json.loads(attributes.get("Policy") or "{}")
    allowing = [statement for statement in statements(document) if _lets_s3_send(statement)]
    if any(f'"{patient.arn}"' in json.dumps(statement.get("Condition", {})) for statement in allowing):
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
    kept = [
        narrowed
        for other in statements(document)
        if (narrowed := other if other not in allowing or other.get("Condition") else _without_s3(other)) is not None
    ]
    policy = {"Version": "2012-10-17", **document, "Statement": [*kept, statement]}
    fix = _set(patient, Policy=json.dumps(policy))
    if allowing and not all(other.get("Condition") for other in allowing):
        return warn(
            "queue policy",
            "lets the buckets of every account send",
            cause="its statement has no aws:SourceArn, so strangers can fill the queue with events",
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
    if "EventBridgeConfiguration" in configuration or configuration.get("TopicConfigurations"):
        return ok(check, "the bucket notifies SNS or EventBridge, which have to notify the queue")
    routes = configuration.get("QueueConfigurations", [])
    own = [route for route in routes if route["QueueArn"] == queue_arn and set(_CREATED) & set(route["Events"])]
    prefixes = [_prefix(route) for route in own]
    if STAGING in prefixes:
        return ok(check, f"the bucket notifies the queue of uploads under {STAGING}")
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


def _overlaps(route: dict[str, Any]) -> bool:
    """Return whether a notification is sent for an upload, so that S3 refuses another one for it."""
    prefix = _prefix(route)
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


def _prefix(route: dict[str, Any]) -> str:
    rules = route.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    return next((rule["Value"] for rule in rules if rule["Name"].lower() == "prefix"), "")


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
