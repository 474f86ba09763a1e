"""The way of S3's events: the bucket tells the queue, and what fails there is put aside.

Source: Amazon S3 User Guide, "Granting permissions to publish event notification messages to a destination".
"""

import json
from typing import Any

from broker.doctor.checks.configuration import unreadable
from broker.doctor.checks.lifecycle import STAGING
from broker.doctor.deployment import Patient, Refused, ask, sqs_client
from broker.doctor.finding import Finding, fail, ok, warn

MAX_RECEIVES = 5
_CREATED = ("s3:ObjectCreated:*", "s3:ObjectCreated:Post")

Attributes = dict[str, str]


async def events(patient: Patient) -> list[Finding]:
    """Look at the queue, at who may send to it, at what the bucket sends, and at the dead letters."""
    url = patient.deployment.queue_url
    if url is None:
        return [ok("queue", "BROKER_SQS_QUEUE_URL is not set; the sweep finds what no client announced")]
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
    answer = await ask(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["All"])
    found: Attributes = answer["Attributes"]
    return found


def _no_queue(patient: Patient, url: str, refused: Refused) -> Finding:
    name = url.rpartition("/")[2]
    if refused.is_denied:
        return fail(
            "queue",
            f"{name} cannot be read ({refused.code})",
            cause="the keys lack sqs:GetQueueAttributes",
            mend=patient.aws("sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names", "All"),
            terraform='statement "ReceiveEvents" in aws_iam_policy.worker',
        )
    return fail(
        "queue",
        f"{name} does not answer ({refused.code})",
        cause="BROKER_SQS_QUEUE_URL names no queue of this account and region",
        mend=patient.aws("sqs", "create-queue", "--queue-name", name),
        terraform="aws_sqs_queue.uploads",
    )


def _sender(attributes: Attributes, patient: Patient) -> Finding:
    """Find whether the queue takes what this bucket sends, and what this bucket alone sends."""
    document = json.loads(attributes.get("Policy") or "{}")
    statements = [one for one in document.get("Statement", []) if _lets_s3_send(one)]
    bound = [one for one in statements if f'"{patient.arn}"' in json.dumps(one.get("Condition", {}))]
    if bound:
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
    # A statement for another bucket stays; one for every bucket goes.
    kept = [one for one in document.get("Statement", []) if one not in statements or one.get("Condition")]
    policy = {"Version": "2012-10-17", "Statement": [*kept, statement]}
    mend = _set(patient, Policy=json.dumps(policy))
    if statements and not all(one.get("Condition") for one in statements):
        return warn(
            "queue policy",
            "lets any bucket of anybody send",
            cause="its statement has no aws:SourceArn; strangers can fill the queue with names of objects",
            mend=mend,
            terraform='statement "AllowEventsOfTheBucket" of the queue',
        )
    return fail(
        "queue policy",
        "does not let this bucket send",
        cause="no statement allows s3.amazonaws.com to sqs:SendMessage for this bucket's ARN; events are lost",
        mend=mend,
        terraform='statement "AllowEventsOfTheBucket" of the queue',
    )


def _lets_s3_send(statement: dict[str, Any]) -> bool:
    principal, action = json.dumps(statement.get("Principal", "")), json.dumps(statement.get("Action", "")).lower()
    return (
        statement.get("Effect") == "Allow"
        and ("s3.amazonaws.com" in principal or '"*"' in principal)
        and ("sqs:sendmessage" in action or "sqs:*" in action)
    )


async def _notification(queue_arn: str, patient: Patient) -> Finding:
    check = "notification"
    try:
        said = await patient.ask("get_bucket_notification_configuration")
    except Refused as refused:
        return unreadable(check, refused, patient, "get-bucket-notification-configuration")
    said.pop("ResponseMetadata", None)
    if "EventBridgeConfiguration" in said or said.get("TopicConfigurations"):
        return ok(check, "the bucket tells SNS or EventBridge, which have to tell the queue")
    routes = [one for one in said.get("QueueConfigurations", []) if one["QueueArn"] == queue_arn]
    heard = [one for one in routes if set(_CREATED) & set(one["Events"])]
    prefixes = [_prefix(one) for one in heard]
    if any(prefix == STAGING for prefix in prefixes):
        return ok(check, f"the bucket tells the queue what arrives under {STAGING}")
    route = {
        "Id": "arrived-in-staging",
        "QueueArn": queue_arn,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": STAGING}]}},
    }
    others = [one for one in said.get("QueueConfigurations", []) if one["QueueArn"] != queue_arn]
    mend = patient.s3api(
        "put-bucket-notification-configuration",
        document=("--notification-configuration", {**said, "QueueConfigurations": [*others, route]}),
    )
    if "" in prefixes:
        return warn(
            check,
            "the bucket tells the queue of every object",
            cause=f"the filter does not name {STAGING}, so that each promotion is an event as well",
            mend=mend,
            terraform="aws_s3_bucket_notification.media",
        )
    seen = f"only what arrives under {', '.join(prefixes)}" if prefixes else "the bucket tells the queue nothing"
    return fail(
        check,
        seen,
        cause=f"no notification of s3:ObjectCreated:* under {STAGING} goes to this queue",
        mend=mend,
        terraform="aws_s3_bucket_notification.media",
    )


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
            cause="a message that always fails is received again and again, until it is lost after its retention",
            mend=f"{create} && {_set(patient, RedrivePolicy=policy)}",
            terraform="aws_sqs_queue.uploads (redrive_policy) and aws_sqs_queue.dead",
        )
    try:
        dead = await _attributes(sqs, f"{url.rpartition('/')[0]}/{dead_arn.rpartition(':')[2]}")
    except Refused as refused:
        return warn(
            check,
            f"{dead_arn.rpartition(':')[2]} cannot be read ({refused.code})",
            cause="it is gone, or the keys may not read it",
            mend=patient.aws("sqs", "get-queue-url", "--queue-name", dead_arn.rpartition(":")[2]),
            terraform="output doctor_policy_arn",
        )
    count = int(dead["ApproximateNumberOfMessages"])
    if count == 0:
        return ok(check, f"after {redrive['maxReceiveCount']} receives a message is put aside; none was")
    return warn(
        check,
        f"{count} messages were put aside",
        cause="events failed again and again; the worker's log says why",
        mend=patient.aws("sqs", "start-message-move-task", "--source-arn", dead_arn),
    )


def _set(patient: Patient, **attributes: str) -> str:
    url = patient.deployment.queue_url or ""
    return patient.aws("sqs", "set-queue-attributes", "--queue-url", url, document=("--attributes", attributes))
