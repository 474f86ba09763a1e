"""Every fix keeps what the bucket and its queue had, but for what is wrong with it."""

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from broker.dev.s3 import Fault
from broker.doctor import Finding, Verdict
from broker.doctor.checks import cors as cors_check
from broker.doctor.checks import promotion
from broker.doctor.checks.lifecycle import judged, removal
from broker.doctor.deployment import opened
from broker.domain.s3.properties import ObjectProperties
from tests.doctor.deployed import ABORTED, CLEARED, Deployed, over_tls, page_rule, unhealthy
from tests.doctor.fixing import apply_fix

DOWNLOADS = {
    "ID": "downloads",
    "AllowedOrigins": ["https://docs.example"],
    "AllowedMethods": ["GET"],
    "MaxAgeSeconds": 5,
}
TRANSITION = {
    "ID": "cold",
    "Status": "Enabled",
    "Filter": {"Prefix": "archive/"},
    "Transitions": [{"Days": 30, "StorageClass": "GLACIER"}],
}
INSTANT = {
    "ID": "cold",
    "Status": "Enabled",
    "Filter": {"Prefix": "media/"},
    "Transitions": [{"Days": 30, "StorageClass": "GLACIER_IR"}],
}
DEEP = [{"Days": 180, "StorageClass": "DEEP_ARCHIVE"}]
ABORT = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}
TAGGED = {
    "ID": "trials",
    "Status": "Enabled",
    "Filter": {"Tag": {"Key": "trial", "Value": "yes"}},
    "Expiration": {"Days": 7},
}


@dataclass
class Case:
    """A change to a healthy deployment, the check that it fails, and the part that the fix has to keep."""

    spoil: Callable[[Deployed], object]
    check: str
    read: Callable[[Deployed], Any]
    kept: Any


def cors(*rules: dict[str, Any]) -> Callable[[Deployed], None]:
    return lambda on: on.set("bucket_cors", CORSConfiguration={"CORSRules": list(rules)})


def cors_rules(on: Deployed) -> Any:
    return on.s3.get_bucket_cors(Bucket=on.bucket)["CORSRules"][1:]


def rules(*rules: dict[str, Any]) -> Callable[[Deployed], None]:
    return lambda on: on.set_rules(*rules)


def lifecycle_rules(on: Deployed) -> Any:
    listed = on.s3.get_bucket_lifecycle_configuration(Bucket=on.bucket)["Rules"]
    return [rule for rule in listed if not rule["ID"].startswith("broker-")]


def policy(*statements: dict[str, Any], **members: Any) -> Callable[[Deployed], None]:
    document = {"Version": "2012-10-17", "Statement": list(statements), **members}
    return lambda on: on.set("bucket_policy", Policy=json.dumps(document).replace("BUCKET", on.bucket))


def bucket_policy(on: Deployed) -> Any:
    return json.loads(on.s3.get_bucket_policy(Bucket=on.bucket)["Policy"].replace(on.bucket, "BUCKET"))


def routes(*others: dict[str, Any]) -> Callable[[Deployed], None]:
    def spoil(on: Deployed) -> None:
        configured = [{"QueueArn": on.queue_arn, **route} for route in others]
        on.set("bucket_notification_configuration", NotificationConfiguration={"QueueConfigurations": configured})

    return spoil


def bucket_routes(on: Deployed) -> Any:
    configuration = on.s3.get_bucket_notification_configuration(Bucket=on.bucket)
    return [
        (route["Id"], route["Events"])
        for route in configuration["QueueConfigurations"]
        if route["Id"] != "arrived-in-staging"
    ]


def route(name: str, prefix: str, *events: str) -> dict[str, Any]:
    filtered = {"Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}}} if prefix else {}
    return {"Id": name, "Events": list(events), **filtered}


READERS = {
    "Sid": "Readers",
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::BUCKET/media/*",
}
CASES = {
    "CORS: a rule for other pages": Case(cors(DOWNLOADS), "CORS", cors_rules, [DOWNLOADS]),
    "CORS: the other origins of a rule that is too wide": Case(
        cors(page_rule(), {**DOWNLOADS, "AllowedOrigins": ["https://docs.example", "https://*"]}),
        "CORS of others",
        cors_rules,
        [page_rule(), DOWNLOADS],
    ),
    "CORS: a wide rule for methods that are not the broker's": Case(
        cors({**DOWNLOADS, "AllowedOrigins": ["*"], "AllowedMethods": ["DELETE"]}),
        "CORS",
        cors_rules,
        [{**DOWNLOADS, "AllowedOrigins": ["*"], "AllowedMethods": ["DELETE"]}],
    ),
    "CORS: the origins of a rule of the same id": Case(
        cors({**page_rule("https://old.example"), "ID": "forms-and-playback"}),
        "CORS",
        cors_rules,
        [page_rule("https://old.example")],
    ),
    "lifecycle: the other rules": Case(
        rules(TRANSITION, TAGGED, ABORTED), "lifecycle", lifecycle_rules, [TRANSITION, TAGGED, ABORTED]
    ),
    "lifecycle: what else a rule does that removes media": Case(
        rules({**INSTANT, "Expiration": {"Days": 365}}, CLEARED, ABORTED),
        "kept media",
        lifecycle_rules,
        [INSTANT, CLEARED, ABORTED],
    ),
    "lifecycle: the other transitions of a rule that archives media": Case(
        rules({**INSTANT, "Transitions": [*INSTANT["Transitions"], *DEEP]}, CLEARED, ABORTED),
        "kept media",
        lifecycle_rules,
        [INSTANT, CLEARED, ABORTED],
    ),
    "lifecycle: what else a rule does that archives media": Case(
        rules({**TRANSITION, "Filter": {"Prefix": ""}, **ABORT}, CLEARED, ABORTED),
        "kept media",
        lifecycle_rules,
        [{"ID": "cold", "Status": "Enabled", "Filter": {"Prefix": ""}, **ABORT}, CLEARED, ABORTED],
    ),
    "lifecycle: a disabled rule of another id": Case(
        rules({**CLEARED, "Status": "Disabled"}, ABORTED),
        "lifecycle",
        lifecycle_rules,
        [{**CLEARED, "Status": "Disabled"}, ABORTED],
    ),
    "policy: the other statements": Case(
        policy(READERS, Id="ours"),
        "transport",
        lambda on: (bucket_policy(on)["Id"], bucket_policy(on)["Statement"][0]),
        ("ours", READERS),
    ),
    "notification: of other objects to the same queue": Case(
        routes(route("covers", "covers/", "s3:ObjectCreated:*")),
        "notification",
        bucket_routes,
        [("covers", ["s3:ObjectCreated:*"])],
    ),
    "notification: of other events to the same queue": Case(
        routes(route("all", "", "s3:ObjectCreated:*", "s3:ObjectRemoved:*")),
        "notification",
        bucket_routes,
        [("all", ["s3:ObjectRemoved:*"])],
    ),
}


def only(findings: Iterable[Finding], check: str) -> Finding:
    return next(finding for finding in findings if finding.check == check)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_fix_keeps_what_the_bucket_had(case: Case, deployed: Deployed) -> None:
    case.spoil(deployed)
    finding = only(await deployed.look(), case.check)
    assert finding.verdict in {Verdict.FAIL, Verdict.WARN}
    apply_fix(finding, deployed.server)
    assert case.read(deployed) == case.kept
    assert unhealthy(await deployed.look()) == {}


async def test_a_rule_that_cleared_staging_and_removed_media_is_replaced(deployed: Deployed) -> None:
    deployed.set_rules({**CLEARED, "Filter": {"Prefix": ""}}, ABORTED)
    apply_fix(only(await deployed.look(), "kept media"), deployed.server)
    assert unhealthy(await deployed.look()) == {}


@pytest.mark.parametrize(
    ("storage_class", "prefix", "verdict"),
    [
        ("GLACIER", "media/", Verdict.FAIL),
        ("GLACIER", "", Verdict.FAIL),
        ("DEEP_ARCHIVE", "media/aa/", Verdict.FAIL),
        ("GLACIER", "archive/", Verdict.OK),
        ("GLACIER_IR", "media/", Verdict.OK),
        ("INTELLIGENT_TIERING", "media/", Verdict.OK),
        ("STANDARD_IA", "media/", Verdict.OK),
    ],
)
async def test_media_may_move_only_to_a_storage_class_that_serves_links(
    storage_class: str, prefix: str, verdict: Verdict, deployed: Deployed
) -> None:
    moved = [{"Days": 30, "StorageClass": storage_class}]
    deployed.set_rules({**TRANSITION, "Filter": {"Prefix": prefix}, "Transitions": moved}, CLEARED, ABORTED)
    async with opened(deployed.deployment) as patient:
        assert only(await removal(patient), "kept media").verdict is verdict


async def test_old_versions_of_which_the_newest_are_kept_do_not_expire(deployed: Deployed) -> None:
    old = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}}
    ends = {**old, "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}
    keeps = {**old, "NoncurrentVersionExpiration": {"NoncurrentDays": 30, "NewerNoncurrentVersions": 5}}
    async with opened(deployed.deployment) as patient:
        assert only(judged("Enabled", [CLEARED, ABORTED, ends], patient), "versioning").verdict is Verdict.OK
        finding = only(judged("Enabled", [CLEARED, ABORTED, keeps], patient), "versioning")
    assert finding.verdict is Verdict.FAIL
    words = shlex.split(finding.fix)
    put = json.loads(words[words.index("--lifecycle-configuration") + 1])["Rules"]
    assert put[:3] == [CLEARED, ABORTED, keeps]
    assert [rule["Filter"]["Prefix"] for rule in put[3:]] == ["staging/", "media/"]


async def test_a_rule_by_a_tag_that_media_have_removes_them(deployed: Deployed) -> None:
    deployed.set_rules(TAGGED, CLEARED, ABORTED)
    for tags, verdict in [((), Verdict.OK), ((("trial", "no"),), Verdict.OK), ((("trial", "yes"),), Verdict.FAIL)]:
        bucket = replace(deployed.deployment.bucket, properties=ObjectProperties(tags=tags))
        async with opened(replace(deployed.deployment, bucket=bucket)) as patient:
            assert only(await removal(patient), "kept media").verdict is verdict


async def test_a_rule_by_a_tag_that_staging_objects_have_expires_them(deployed: Deployed) -> None:
    tag = TAGGED["Filter"]["Tag"]  # type: ignore[index]
    both = {"Filter": {"And": {"Prefix": "staging/", "Tags": [tag]}}, "Expiration": {"Days": 1}}
    deployed.set_rules({**TAGGED, **both}, CLEARED, ABORTED)
    for tags, verdict in [((), Verdict.OK), ((("trial", "no"),), Verdict.OK), ((("trial", "yes"),), Verdict.WARN)]:
        bucket = replace(deployed.deployment.bucket, properties=ObjectProperties(tags=tags))
        async with opened(replace(deployed.deployment, bucket=bucket)) as patient:
            assert only(await removal(patient), "lifecycle").verdict is verdict


async def test_a_disabled_rule_of_the_doctors_own_id_is_replaced(deployed: Deployed) -> None:
    deployed.set_rules({**CLEARED, "ID": "broker-staging", "Status": "Disabled"}, ABORTED)
    apply_fix(only(await deployed.look(), "lifecycle"), deployed.server)
    assert unhealthy(await deployed.look()) == {}


async def test_rules_that_cannot_be_read_are_not_dropped_silently(deployed: Deployed) -> None:
    deployed.set("bucket_cors", CORSConfiguration={"CORSRules": [DOWNLOADS]})
    deployed.server.order_fault(Fault("ConfigureBucket", code="AccessDenied"))
    async with opened(replace(deployed.deployment, page_origins=("https://new.example",))) as patient:
        finding = only(await cors_check.pages(patient), "CORS")
    assert "# replaces all rules; add those that the bucket has, which these keys cannot read" in finding.fix


async def test_a_notification_that_another_queue_gets_is_kept(deployed: Deployed) -> None:
    other = deployed.sqs.create_queue(QueueName=f"{deployed.bucket}-other")["QueueUrl"]
    arn = deployed.sqs.get_queue_attributes(QueueUrl=other, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    routes({**route("theirs", "", "s3:ObjectCreated:*"), "QueueArn": arn})(deployed)
    finding = only(await deployed.look(), "notification")
    assert finding.detail == f"the bucket notifies {deployed.bucket}-other of uploads under staging/ instead"
    command, _, comment = finding.fix.partition("  # ")
    assert comment == "then a rule of EventBridge that sends Object Created to the queue"
    words = shlex.split(command)  # the embedded S3 has no EventBridge
    configuration = json.loads(words[words.index("--notification-configuration") + 1])
    assert [route["Id"] for route in configuration.pop("QueueConfigurations")] == ["theirs"]
    assert configuration == {"EventBridgeConfiguration": {}}


async def test_other_senders_stay_in_the_policy_of_the_queue(deployed: Deployed) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": ["s3.amazonaws.com", "sns.amazonaws.com"]},
        "Action": "sqs:SendMessage",
        "Resource": deployed.queue_arn,
    }
    deployed.set_queue(Policy=json.dumps({"Version": "2008-10-17", "Id": "ours", "Statement": [statement]}))
    finding = only(await deployed.look(), "queue policy")
    assert finding.verdict is Verdict.WARN
    apply_fix(finding, deployed.server)
    attributes = deployed.sqs.get_queue_attributes(QueueUrl=deployed.queue_url, AttributeNames=["Policy"])["Attributes"]
    document = json.loads(attributes["Policy"])
    assert (document["Version"], document["Id"]) == ("2008-10-17", "ours")
    assert document["Statement"][0] == {**statement, "Principal": {"Service": ["sns.amazonaws.com"]}}


PUBLIC = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::BUCKET/*"}


@pytest.mark.parametrize(
    ("statements", "command"),
    [
        ([READERS, PUBLIC], "put-bucket-policy"),
        ([PUBLIC], "delete-bucket-policy"),
        ([READERS], "get-bucket-policy"),
        ([{**PUBLIC, "Condition": {"StringLike": {"aws:Referer": "https://app.example/*"}}}], "get-bucket-policy"),
    ],
)
async def test_a_public_bucket_is_closed_by_its_public_statements_alone(
    statements: list[dict[str, Any]], command: str, deployed: Deployed
) -> None:
    policy(*statements)(deployed)
    everything_is_public = httpx.MockTransport(lambda _: httpx.Response(200))
    async with opened(deployed.deployment) as patient, httpx.AsyncClient(transport=everything_is_public) as http:
        finding = await promotion.strangers(replace(patient, http=http))
    assert finding.fix.startswith(f"aws s3api {command} ")
    if command == "put-bucket-policy":
        apply_fix(finding, deployed.server)
        assert bucket_policy(deployed)["Statement"] == [READERS]


async def test_a_policy_whose_only_statement_stands_without_a_list_is_read(deployed: Deployed) -> None:
    deployed.set("bucket_policy", Policy=json.dumps({"Version": "2012-10-17", "Statement": over_tls(deployed.bucket)}))
    assert unhealthy(await deployed.look()) == {}
