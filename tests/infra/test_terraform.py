"""The Terraform module: its resources are closed, complete, stable, and removed by `destroy`."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.settings import Settings, environment_name
from tests.infra.check_plan import violations
from tests.infra.conftest import FULL, PLAIN, Life, public_key_pem
from tests.infra.expected import Variant
from tests.infra.plan import changed, resources, statements
from tests.infra.stand_in import aws_stand_in, write_provider
from tests.infra.terraform import Workspace, require_terraform

pytestmark = pytest.mark.timeout(1200)

VARIANTS = pytest.mark.parametrize("variant", [PLAIN, FULL], ids=["plain", "kms-versioning-cloudfront"])


def test_it_is_formatted(tmp_path: Path) -> None:
    require_terraform()
    assert Workspace(tmp_path / "module").run("fmt", "-check", "-recursive").stdout == ""


def test_the_example_is_valid(tmp_path: Path) -> None:
    require_terraform()
    workspace = Workspace(tmp_path / "module", folder="examples/fargate")
    workspace.init()
    result = json.loads(workspace.run("validate", "-json").stdout)
    assert (result["valid"], result["diagnostics"]) == (True, [])


def test_values_that_would_open_the_bucket_are_refused(tmp_path: Path) -> None:
    require_terraform()
    wrong = {
        "bucket_name": "has.a.dot",
        "allowed_origins": ["*"],
        "encryption": "none",
        "staging_days": 0,
        "noncurrent_days": 0.5,
        "max_receives": 1,
        "oldest_message_seconds": 5,
        "alarm_topic_arns": ["arn:aws:sns:*:*:*"],
        "cloudfront": {"public_keys_pem": {"first": "-----BEGIN PRIVATE KEY-----"}, "price_class": "Cheap"},
    }
    workspace = Workspace.of_variables(tmp_path / "module", wrong)
    message = workspace.run("plan", "-input=false", statuses=(1,)).stderr
    assert [name for name in wrong if f"var.{name}" not in message] == []


@pytest.mark.parametrize(
    "origin",
    [
        "https://*",
        "https://*.example",
        "https://*.*.preview.example",
        "https://app.*.preview.example",
        "http://*.preview.example",
        "http://app.example",
        "https://app.example/",
        "file://localhost",
        "ws://localhost",
        "capacitor://*",
        "null",
    ],
)
def test_an_origin_that_is_too_wide_or_no_origin_is_refused(origin: str, tmp_path: Path) -> None:
    require_terraform()
    asked = {"bucket_name": "videos", "allowed_origins": [origin]}
    workspace = Workspace.of_variables(tmp_path / "module", asked)
    assert "var.allowed_origins" in workspace.run("plan", "-input=false", statuses=(1,)).stderr


@VARIANTS
def test_the_planned_resources_are_closed_and_complete(variant: Variant, lives: dict[str, Life]) -> None:
    assert violations(lives[variant.bucket].second_plan, variant) == []


def test_the_first_plan_shows_every_policy_before_any_resource_exists(lives: dict[str, Life]) -> None:
    assert violations(lives[PLAIN.bucket].first_plan, PLAIN) == []


@VARIANTS
def test_after_apply_a_plan_changes_nothing(variant: Variant, lives: dict[str, Life]) -> None:
    life = lives[variant.bucket]
    assert (life.second_status, changed(life.second_plan)) == (0, [])


@VARIANTS
def test_destroy_leaves_nothing(variant: Variant, lives: dict[str, Life]) -> None:
    assert lives[variant.bucket].left == []


@VARIANTS
def test_the_outputs_are_the_brokers_environment(variant: Variant, lives: dict[str, Life]) -> None:
    environment = lives[variant.bucket].outputs["environment"]
    known = {environment_name(field) for field in Settings.model_fields}
    assert environment.keys() <= known
    assert environment["AWS_S3_BUCKET_NAME"] == variant.bucket
    assert environment["BROKER_SQS_QUEUE_URL"].endswith(f"/{variant.bucket}-uploads")


def test_a_cloudfront_key_is_rotated_as_the_readme_says(tmp_path: Path) -> None:
    # A new key is added and the old one removed, each by an apply. CloudFront keeps a key while the key group lists it.
    require_terraform()
    workspace = Workspace(tmp_path / "module")
    old, new = public_key_pem(), public_key_pem()
    with aws_stand_in() as endpoint:
        write_provider(workspace.home, endpoint)
        workspace.init()
        for keys in ({"old": old}, {"old": old, "new": new}, {"new": new}):
            workspace.set(_trusting(keys))
            workspace.apply("aws_cloudfront_public_key.playback", "aws_cloudfront_key_group.playback")
        left = json.loads(workspace.run("show", "-json").stdout)["values"]["root_module"]["resources"]
    assert [key["values"]["name"] for key in left if key["type"] == "aws_cloudfront_public_key"] == ["videos-new"]


def _trusting(keys: dict[str, str]) -> dict[str, Any]:
    origins = ["https://app.example"]
    return {"bucket_name": "videos", "allowed_origins": origins, "cloudfront": {"public_keys_pem": keys}}


Doctor = Callable[[dict[str, Any]], None]


def _in_policy(address: str, sid: str, **changes: Any) -> Doctor:
    """Return a function that changes one statement of a plan; None removes a part of it."""

    def doctor(plan: dict[str, Any]) -> None:
        values = resources(plan)[address]
        policy = json.loads(values["policy"])
        statement = next(item for item in policy["Statement"] if item["Sid"] == sid)
        statement.update(changes)
        for part in [part for part, value in changes.items() if value is None]:
            del statement[part]
        values["policy"] = json.dumps(policy)

    return doctor


def _without(address: str, sid: str) -> Doctor:
    def doctor(plan: dict[str, Any]) -> None:
        values = resources(plan)[address]
        policy = json.loads(values["policy"])
        policy["Statement"] = [item for item in policy["Statement"] if item["Sid"] != sid]
        values["policy"] = json.dumps(policy)

    return doctor


def _with(address: str, **statement: Any) -> Doctor:
    def doctor(plan: dict[str, Any]) -> None:
        values = resources(plan)[address]
        policy = json.loads(values["policy"])
        policy["Statement"].append({"Sid": "Added", "Effect": "Allow", **statement})
        values["policy"] = json.dumps(policy)

    return doctor


def _in_values(address: str, *path: str | int, to: Any) -> Doctor:
    def doctor(plan: dict[str, Any]) -> None:
        values: Any = resources(plan)[address]
        for step in path[:-1]:
            values = values[step]
        values[path[-1]] = to

    return doctor


BUCKET, QUEUE, SIGNER = "aws_s3_bucket_policy.media", "aws_sqs_queue.uploads", "aws_iam_policy.signer"
WORKER, KEY, CDN = "aws_iam_policy.worker", "aws_kms_key.media[0]", "aws_cloudfront_distribution.media[0]"
BLOCK, LIFECYCLE = "aws_s3_bucket_public_access_block.media", "aws_s3_bucket_lifecycle_configuration.media"
NOTIFICATION, CORS = "aws_s3_bucket_notification.media", "aws_s3_bucket_cors_configuration.media"
DEFAULT_ENCRYPTION = "apply_server_side_encryption_by_default"
EVERY_SETTING = ["block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"]

DOCTORED: list[tuple[str, Doctor]] = [
    (SIGNER, _in_policy(SIGNER, "SignForms", Action="s3:*")),
    (SIGNER, _in_policy(SIGNER, "SignForms", Action=["s3:PutObject", "s3:PutObjectAcl"])),
    (SIGNER, _in_policy(SIGNER, "SignForms", Resource="*")),
    (SIGNER, _in_policy(SIGNER, "SignForms", Resource="arn:aws:s3:::full-media/*")),
    (SIGNER, _in_policy(SIGNER, "SignForms", Resource="arn:aws:s3:::full-media/media/*")),
    (SIGNER, _in_policy(SIGNER, "SignForms", Resource="arn:aws:s3:::another/staging/*")),
    (SIGNER, _in_policy(SIGNER, "ReadObjects", Condition=None)),
    (SIGNER, _in_policy(SIGNER, "FindCompositions", Condition=None)),
    (SIGNER, _in_policy(SIGNER, "FindVersions", Condition={"StringLike": {"s3:prefix": "*"}})),
    (SIGNER, _in_policy(SIGNER, "UseKey", Resource="*")),
    (SIGNER, _in_policy(SIGNER, "UseKey", Action="kms:*")),
    (SIGNER, _in_policy(SIGNER, "Purge", Action="s3:Delete*")),
    (SIGNER, _without(SIGNER, "TellAbsence")),
    (SIGNER, _with(SIGNER, Action="s3:PutBucketPolicy", Resource="arn:aws:s3:::full-media")),
    (WORKER, _in_policy(WORKER, "ReceiveEvents", Resource="arn:aws:sqs:*:*:*")),
    (WORKER, _in_policy(WORKER, "ReceiveEvents", Condition=None)),
    (WORKER, _with(WORKER, Action="s3:PutObject", Resource="arn:aws:s3:::full-media/staging/*")),
    (BUCKET, _without(BUCKET, "DenyWithoutTls")),
    (BUCKET, _in_policy(BUCKET, "DenyWithoutTls", Resource="arn:aws:s3:::full-media")),
    (BUCKET, _in_policy(BUCKET, "DenyWithoutTls", Condition={"Bool": {"aws:SecureTransport": "true"}})),
    (BUCKET, _in_policy(BUCKET, "DenyOtherSignatures", Principal={"AWS": "arn:aws:iam::123456789012:root"})),
    (BUCKET, _without(BUCKET, "DenyLinksToStaging")),
    (BUCKET, _without(BUCKET, "DenyFormsAndLinksIntoMedia")),
    (BUCKET, _in_policy(BUCKET, "AllowCloudFront", Condition=None)),
    (BUCKET, _in_policy(BUCKET, "AllowCloudFront", Resource="arn:aws:s3:::full-media/*")),
    (BUCKET, _with(BUCKET, Principal="*", Action="s3:GetObject", Resource="arn:aws:s3:::full-media/media/*")),
    (QUEUE, _in_policy(QUEUE, "AllowEventsOfTheBucket", Condition=None)),
    (
        QUEUE,
        _in_policy(
            QUEUE, "AllowEventsOfTheBucket", Condition={"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::full-media"}}
        ),
    ),
    (QUEUE, _in_policy(QUEUE, "AllowEventsOfTheBucket", Principal="*")),
    (QUEUE, _in_policy(QUEUE, "AllowEventsOfTheBucket", Action="sqs:*")),
    (QUEUE, _in_values(QUEUE, "redrive_policy", to="")),
    (KEY, _with(KEY, Principal="*", Action="kms:Decrypt", Resource="*")),
    (KEY, _in_policy(KEY, "AllowCloudFront", Condition=None)),
    (KEY, _in_policy(KEY, "AllowCloudFront", Condition={"ArnLike": {"aws:SourceArn": "arn:aws:cloudfront::*"}})),
    (KEY, _in_values(KEY, "enable_key_rotation", to=False)),
    *((BLOCK, _in_values(BLOCK, setting, to=False)) for setting in EVERY_SETTING),
    (
        "aws_s3_bucket_ownership_controls.media",
        _in_values("aws_s3_bucket_ownership_controls.media", "rule", 0, "object_ownership", to="ObjectWriter"),
    ),
    (
        "aws_s3_bucket_server_side_encryption_configuration.media",
        _in_values("aws_s3_bucket_server_side_encryption_configuration.media", "rule", 0, DEFAULT_ENCRYPTION, to=[]),
    ),
    (CORS, _in_values(CORS, "cors_rule", 0, "allowed_origins", to=["*"])),
    (CORS, _in_values(CORS, "cors_rule", 0, "allowed_methods", to=["POST", "GET", "HEAD", "PUT"])),
    (CORS, _in_values(CORS, "cors_rule", 0, "expose_headers", to=["Location"])),
    (LIFECYCLE, _in_values(LIFECYCLE, "rule", 0, "filter", 0, "prefix", to="")),
    (LIFECYCLE, _in_values(LIFECYCLE, "rule", 0, "status", to="Disabled")),
    (LIFECYCLE, _in_values(LIFECYCLE, "rule", 1, "abort_incomplete_multipart_upload", to=[])),
    (LIFECYCLE, _in_values(LIFECYCLE, "rule", 1, "expiration", to=[{"days": 30}])),
    (NOTIFICATION, _in_values(NOTIFICATION, "queue", 0, "filter_prefix", to="")),
    (NOTIFICATION, _in_values(NOTIFICATION, "queue", 0, "events", to=["s3:ObjectCreated:Put"])),
    ("aws_sqs_queue.dead", _in_values("aws_sqs_queue.dead", "redrive_allow_policy", to="")),
    (CDN, _in_values(CDN, "default_cache_behavior", 0, "trusted_key_groups", to=[])),
    (CDN, _in_values(CDN, "default_cache_behavior", 0, "viewer_protocol_policy", to="allow-all")),
    (CDN, _in_values(CDN, "origin", 0, "origin_access_control_id", to="")),
]


def test_each_doctored_plan_is_detected(lives: dict[str, Life]) -> None:
    unseen = []
    for place, (address, doctor) in enumerate(DOCTORED):
        plan = copy.deepcopy(lives[FULL.bucket].second_plan)
        doctor(plan)
        if not any(line.startswith(f"{address}: ") for line in violations(plan, FULL)):
            unseen.append((place, address))
    assert unseen == []


@pytest.mark.parametrize(
    ("wide", "problem"),
    [
        ({"Action": "s3:Get*"}, "allows a wildcard of actions"),
        ({"Resource": "arn:aws:s3:::*/media/*"}, "allows a wildcard of resources"),
        ({"Condition": {}}, "allows without a condition"),
        ({"Principal": {"AWS": "*"}}, "allows every principal"),
    ],
)
def test_the_violation_of_an_unexpected_right_says_how_it_is_too_wide(
    wide: dict[str, Any], problem: str, lives: dict[str, Life]
) -> None:
    plan = copy.deepcopy(lives[FULL.bucket].second_plan)
    narrow = {
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::full-media/media/*",
        "Condition": {"StringEquals": {"aws:ResourceAccount": "123456789012"}},
    }
    _with(SIGNER, **{**narrow, **wide})(plan)
    assert f"{SIGNER}: Added {problem}" in violations(plan, FULL)


@pytest.mark.parametrize(
    ("key", "action"),
    [
        ("s3:prefix", "s3:ListBucketMultipartUploads"),
        ("s3:prefix", "s3:GetObject"),
        ("kms:ViaService", "s3:GetObject"),
        ("sqs:QueueName", "sqs:ReceiveMessage"),
    ],
)
def test_a_right_whose_condition_never_matches_is_detected(key: str, action: str, lives: dict[str, Life]) -> None:
    plan = copy.deepcopy(lives[FULL.bucket].second_plan)
    own = {"StringEquals": {"aws:ResourceAccount": "123456789012"}}
    _with(SIGNER, Action=action, Resource="arn:aws:s3:::full-media", Condition={**own, "StringLike": {key: "media/*"}})(
        plan
    )
    assert f"{SIGNER}: Added needs {key}, which is not sent for {action}" in violations(plan, FULL)


@VARIANTS
def test_no_statement_uses_a_negated_element(variant: Variant, lives: dict[str, Life]) -> None:
    # The reader of statements raises KeyError for NotAction, NotResource and NotPrincipal.
    assert sum(len(policy) for policy in statements(lives[variant.bucket].second_plan).values()) >= 20
