"""Faults in the configuration of bucket or queue: each one alone is found, and its command fixes it."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from broker.doctor import Verdict
from tests.doctor.deployed import ABORTED, BLOCKED, CLEARED, Deployed, page_rule, unhealthy
from tests.doctor.fixing import apply_fix


class Fault(NamedTuple):
    """A fault, and the verdicts of the checks that find it."""

    spoil: Callable[[Deployed], object]
    found_by: dict[str, Verdict]
    terraform: str
    afterwards: Callable[[Deployed], object] = id
    """What the server forgets when the fault is fixed."""


FAIL, WARN, SKIP = Verdict.FAIL, Verdict.WARN, Verdict.SKIP
VERSIONED = {"VersioningConfiguration": {"Status": "Enabled"}}
BLOCK = "aws_s3_bucket_public_access_block.media"
CORS = "aws_s3_bucket_cors_configuration.media"
RULES = "aws_s3_bucket_lifecycle_configuration.media"
SSE = "aws_s3_bucket_server_side_encryption_configuration.media"


def _cors(*origins: str, **said: tuple[str, ...]) -> Callable[[Deployed], None]:
    rules = {"CORSRules": [page_rule(*origins, **said)]}
    return lambda on: on.set("bucket_cors", CORSConfiguration=rules)


def _let_everybody_send(on: Deployed) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": "SQS:SendMessage", "Resource": on.queue_arn}
    on.set_queue(Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


def _let_another_bucket_send(on: Deployed) -> None:
    on.set_queue(Policy=on.policy.replace(f"arn:aws:s3:::{on.bucket}", "arn:aws:s3:::another-bucket"))


def _own_acls(on: Deployed) -> None:
    on.set("bucket_ownership_controls", OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})


FAULTS = {
    "no cors": Fault(lambda on: on.remove("bucket_cors"), {"CORS": FAIL, "CORS headers": SKIP}, CORS),
    "one page of two forgotten": Fault(_cors("https://app.example"), {"CORS": FAIL}, CORS),
    "any page let in": Fault(_cors("*"), {"CORS of others": FAIL}, CORS),
    "every https page let in": Fault(_cors("https://*"), {"CORS of others": FAIL}, CORS),
    "tracing headers refused": Fault(_cors(headers=("Content-Type",)), {"CORS request headers": WARN}, CORS),
    "etag hidden": Fault(_cors(exposed=("Location",)), {"CORS headers": FAIL}, CORS),
    "no lifecycle": Fault(
        lambda on: on.remove("bucket_lifecycle"), {"lifecycle": FAIL, "incomplete uploads": FAIL}, RULES
    ),
    "lifecycle disabled": Fault(
        lambda on: on.set_rules({**CLEARED, "Status": "Disabled"}, ABORTED), {"lifecycle": FAIL}, RULES
    ),
    "lifecycle for another prefix": Fault(
        lambda on: on.set_rules({**CLEARED, "Filter": {"Prefix": "staging/aa/"}}, ABORTED), {"lifecycle": FAIL}, RULES
    ),
    "staging objects expire before a resumable upload does": Fault(
        lambda on: on.set_rules({**CLEARED, "Expiration": {"Days": 1}}, ABORTED), {"lifecycle": WARN}, RULES
    ),
    "some staging objects expire before a resumable upload does": Fault(
        lambda on: on.set_rules(
            CLEARED, {**CLEARED, "ID": "half", "Filter": {"Prefix": "staging/a"}, "Expiration": {"Days": 1}}, ABORTED
        ),
        {"lifecycle": WARN},
        RULES,
    ),
    "large staging objects expire before a resumable upload does": Fault(
        lambda on: on.set_rules(
            CLEARED,
            {
                **CLEARED,
                "ID": "large",
                "Filter": {"And": {"Prefix": "staging/", "ObjectSizeGreaterThan": 1_000_000}},
                "Expiration": {"Days": 1},
            },
            ABORTED,
        ),
        {"lifecycle": WARN},
        RULES,
    ),
    "incomplete uploads kept": Fault(lambda on: on.set_rules(CLEARED), {"incomplete uploads": FAIL}, RULES),
    "media expire": Fault(
        lambda on: on.set_rules({**CLEARED, "ID": "all", "Filter": {"Prefix": ""}}, ABORTED, CLEARED),
        {"kept media": FAIL},
        RULES,
    ),
    "old versions kept": Fault(lambda on: on.set("bucket_versioning", **VERSIONED), {"versioning": FAIL}, RULES),
    "public access allowed": Fault(lambda on: on.remove("public_access_block"), {"public access": FAIL}, BLOCK),
    "public policies allowed": Fault(
        lambda on: on.set(
            "public_access_block", PublicAccessBlockConfiguration={**BLOCKED, "BlockPublicPolicy": False}
        ),
        {"public access": FAIL},
        BLOCK,
    ),
    "acls on": Fault(_own_acls, {"ownership": FAIL}, "aws_s3_bucket_ownership_controls.media"),
    "no encryption": Fault(lambda on: on.remove("bucket_encryption"), {"encryption": FAIL}, SSE),
    "kms without a bucket key": Fault(lambda on: on.encrypt("aws:kms"), {"encryption": WARN}, "sse-kms"),
    "plain http allowed": Fault(
        lambda on: on.remove("bucket_policy"), {"transport": WARN}, "aws_s3_bucket_policy.media"
    ),
    "queue without policy": Fault(lambda on: on.set_queue(Policy=""), {"queue policy": FAIL}, "AllowEventsOfTheBucket"),
    "queue of another bucket": Fault(_let_another_bucket_send, {"queue policy": FAIL}, "AllowEventsOfTheBucket"),
    "queue open to everybody": Fault(_let_everybody_send, {"queue policy": WARN}, "AllowEventsOfTheBucket"),
    "queue without redrive": Fault(
        lambda on: on.make_queue(redrive=False),
        {"dead letters": FAIL},
        "aws_sqs_queue.dead",
        afterwards=lambda on: on.set_queue(Policy=on.policy),
    ),
    "no notification": Fault(lambda on: on.notify(None), {"notification": FAIL}, "aws_s3_bucket_notification.media"),
    "notification of another prefix": Fault(
        lambda on: on.notify("media/"), {"notification": FAIL}, "aws_s3_bucket_notification.media"
    ),
    "notification of everything": Fault(
        lambda on: on.notify(""), {"notification": WARN}, "aws_s3_bucket_notification.media"
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_fault_is_found_and_its_command_fixes_it(fault: Fault, deployed: Deployed) -> None:
    fault.spoil(deployed)
    found = unhealthy(await deployed.examine())
    assert {check: finding.verdict for check, finding in found.items()} == fault.found_by
    for finding in found.values():
        if finding.verdict is not SKIP:
            assert finding.cause
            assert fault.terraform in finding.terraform
            apply_fix(finding, deployed.server)
    fault.afterwards(deployed)
    assert deployed.leftovers() == []
    assert unhealthy(await deployed.look()) == {}


@pytest.mark.parametrize(("resumable_days", "staging_days"), [(1, 2), (3, 4), (7, 8)])
@pytest.mark.parametrize("rules", [(CLEARED,), ()], ids=["a rule that is too early", "no rule"])
async def test_the_fix_lets_staging_objects_outlive_a_resumable_upload(
    deployed: Deployed, rules: tuple[dict[str, Any], ...], resumable_days: int, staging_days: int
) -> None:
    deployed.set_rules(*({**rule, "Expiration": {"Days": resumable_days}} for rule in rules), ABORTED)
    resumable = {"resumable_seconds": resumable_days * 86_400}
    found = unhealthy(await deployed.look(**resumable))
    assert found["lifecycle"].verdict is (WARN if rules else FAIL)
    apply_fix(found["lifecycle"], deployed.server)
    assert unhealthy(await deployed.look(**resumable)) == {}
    listed = deployed.s3.get_bucket_lifecycle_configuration(Bucket=deployed.bucket)["Rules"]
    assert [rule["Expiration"] for rule in listed if "Expiration" in rule] == [{"Days": staging_days}]
