"""The rules by which the doctor judges a queue's policy and a bucket's notifications, as tables."""

import json
from dataclasses import replace
from typing import Any

import pytest
from botocore.stub import Stubber

from broker.doctor import Finding, Verdict
from broker.doctor.checks.queue import events
from broker.doctor.deployment import opened
from tests.doctor.answering import answering
from tests.doctor.deployed import Deployed
from tests.doctor.fixing import apply_fix

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL
OURS, THEIRS = "arn:aws:s3:::BUCKET", "arn:aws:s3:::another"
OF_ACCOUNT = {"StringEquals": {"aws:SourceAccount": "123456789012"}}
CREATED = ["s3:ObjectCreated:*"]


async def look(on: Deployed, check: str, notifications: dict[str, Any] | None = None) -> Finding:
    """Return one finding about the queue; `notifications` stands for what AWS answers, but the embedded S3 cannot."""
    async with opened(on.deployment) as patient:
        with Stubber(patient.s3) as aws:
            aws.add_response("get_bucket_notification_configuration", notifications or {})
            return next(finding for finding in await events(patient) if finding.check == check)


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        # As Amazon S3's User Guide has it, and other forms that work.
        ({"ArnLike": {"aws:SourceArn": "arn:aws:s3:*:*:BUCKET"}, **OF_ACCOUNT}, OK),
        ({"ArnEquals": {"aws:SourceArn": OURS}}, OK),
        ({"ArnLike": {"AWS:SourceArn": OURS}}, OK),
        ({"ArnLike": {"aws:SourceArn": [THEIRS, OURS]}}, OK),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::doctor-*"}}, OK),
        ({"ArnLike": {"aws:SourceArn": "arn:*:s3:::*"}, **OF_ACCOUNT}, OK),
        ({"StringLike": {"aws:SourceArn": "arn:*BUCKET"}}, OK),
        ({"StringEquals": {"aws:SourceArn": OURS, "aws:SourceAccount": "123456789012"}}, OK),
        ({"ArnLikeIfExists": {"aws:SourceArn": OURS}, "Bool": {"aws:SecureTransport": "true"}}, OK),
        (OF_ACCOUNT, OK),
        ({"StringEquals": {"aws:SourceOrgID": "o-a1b2c3d4e5"}}, OK),
        # Too wide.
        (None, WARN),
        ({"Bool": {"aws:SecureTransport": "true"}}, WARN),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:s3:*:*:*"}}, WARN),
        # Not for this bucket.
        ({"ArnEquals": {"aws:SourceArn": THEIRS}}, FAIL),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::media-*"}, **OF_ACCOUNT}, FAIL),
        ({"ArnLike": {"aws:SourceArn": "arn:*BUCKET"}}, FAIL),
        ({"StringEquals": {"aws:SourceArn": "arn:aws:s3:*:*:BUCKET"}}, FAIL),
        ({"StringLike": {"aws:SourceArn": "arn:aws:s3:?:?:BUCKET"}}, FAIL),
        ({"StringEquals": {"aws:PrincipalAccount": "123456789012"}}, FAIL),
    ],
)
async def test_a_condition_of_the_queues_policy_is_read_as_iam_reads_it(
    condition: dict[str, Any] | None, verdict: Verdict, deployed: Deployed
) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "SQS:SendMessage",
        "Resource": deployed.queue_arn,
        **({"Condition": condition} if condition is not None else {}),
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    deployed.set_queue(Policy=policy.replace("BUCKET", deployed.bucket))
    finding = await look(deployed, "queue policy")
    assert finding.verdict is verdict
    if finding.fix:
        apply_fix(finding, deployed.server)
        assert (await look(deployed, "queue policy")).verdict is OK


async def test_an_open_statement_is_found_and_removed_beside_the_right_one(deployed: Deployed) -> None:
    right = json.loads(deployed.policy)["Statement"]
    wide = [{name: value for name, value in statement.items() if name != "Condition"} for statement in right]
    deployed.set_queue(Policy=json.dumps({"Version": "2012-10-17", "Statement": [*right, *wide]}))
    finding = await look(deployed, "queue policy")
    assert finding.verdict is WARN
    apply_fix(finding, deployed.server)
    attributes = deployed.sqs.get_queue_attributes(QueueUrl=deployed.queue_url, AttributeNames=["Policy"])["Attributes"]
    assert json.loads(attributes["Policy"])["Statement"] == right


def filtered(prefix: str, suffix: str = "") -> dict[str, Any]:
    """Return the filter of a notification."""
    rules = [{"Name": "prefix", "Value": prefix}] + ([{"Name": "suffix", "Value": suffix}] if suffix else [])
    return {"Filter": {"Key": {"FilterRules": rules}}}


TOPIC = {"TopicArn": "arn:aws:sns:eu-central-1:123456789012:media", "Events": CREATED}
TO_QUEUE = {"QueueArn": "QUEUE", "Events": CREATED, **filtered("staging/")}


@pytest.mark.parametrize(
    ("notifications", "verdict", "said"),
    [
        ({"QueueConfigurations": [TO_QUEUE]}, OK, "uploads under staging/"),
        ({"QueueConfigurations": [TO_QUEUE], "EventBridgeConfiguration": {}}, OK, "uploads under staging/"),
        ({"QueueConfigurations": [{**TO_QUEUE, **filtered("stag")}]}, OK, "uploads under staging/"),
        ({"EventBridgeConfiguration": {}}, WARN, "EventBridge, which has to notify the queue"),
        ({"TopicConfigurations": [TOPIC]}, WARN, "media of SNS, which has to notify the queue"),
        ({"TopicConfigurations": [{**TOPIC, **filtered("staging/")}]}, WARN, "media of SNS"),
        ({"TopicConfigurations": [{**TOPIC, **filtered("media/")}]}, FAIL, "does not notify the queue"),
        ({"TopicConfigurations": [{**TOPIC, "Events": ["s3:ObjectRemoved:*"]}]}, FAIL, "does not notify the queue"),
        ({"QueueConfigurations": [{**TO_QUEUE, **filtered("staging/", ".mp4")}]}, FAIL, "does not notify the queue"),
        ({"QueueConfigurations": [{**TO_QUEUE, **filtered("staging/aa/")}]}, FAIL, "only of objects under staging/aa/"),
        ({"QueueConfigurations": [{"QueueArn": "QUEUE", "Events": CREATED}]}, WARN, "of every object"),
        ({}, FAIL, "does not notify the queue"),
    ],
)
async def test_a_notification_is_healthy_only_if_the_queue_is_known_to_get_it(
    notifications: dict[str, Any], verdict: Verdict, said: str, deployed: Deployed
) -> None:
    answer = json.loads(json.dumps(notifications).replace("QUEUE", deployed.queue_arn))
    finding = await look(deployed, "notification", answer)
    assert finding.verdict is verdict
    assert said in finding.detail
    assert "cannot be verified here" in finding.cause or "which has to notify" not in finding.detail


async def test_a_queue_that_the_keys_may_not_read_is_a_warning(deployed: Deployed) -> None:
    refusal = b'{"__type": "com.amazonaws.sqs#AccessDenied", "message": "not authorized"}'
    with answering(403, refusal, Content_Type="application/x-amz-json-1.0") as url:
        async with opened(replace(deployed.deployment, sqs_endpoint_url=url)) as patient:
            (finding,) = await events(patient)
    assert (finding.check, finding.verdict) == ("queue", WARN)
    assert finding.detail == f"{deployed.bucket}-uploads cannot be read (AccessDenied)"
    assert finding.terraform == 'statement "ReadQueueSettings" in aws_iam_policy.doctor'
    assert finding.fix.endswith("  # with an administrator's keys")
