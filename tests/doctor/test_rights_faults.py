"""Missing rights: each is found by the request that needs it, and named in the finding."""

from collections.abc import Awaitable, Callable

import pytest

from broker.dev.s3 import Fault
from broker.doctor import Finding, Verdict
from broker.doctor.checks import configuration, lifecycle
from broker.doctor.checks.composition import composition
from broker.doctor.checks.trial import valid_upload
from broker.doctor.deployment import Patient, opened
from broker.errors import StorageUnavailable
from tests.doctor.deployed import Deployed, unhealthy
from tests.doctor.granted import granted_by, rights_in

FAIL, WARN, SKIP = Verdict.FAIL, Verdict.WARN, Verdict.SKIP


@pytest.mark.parametrize(
    ("fault", "found_by", "right"),
    [
        (
            Fault("HeadObject", code="AccessDenied", key_prefix="staging/doctor-absent"),
            "absent object",
            "s3:ListBucket",
        ),
        (Fault("ListObjects", code="AccessDenied"), "bucket access", "s3:ListBucket"),
        (Fault("PostObject", code="AccessDenied"), "upload", "s3:PutObject"),
        (Fault("CopyObject", code="AccessDenied"), "promotion", "s3:PutObject"),
        (Fault("GetObject", code="AccessDenied"), "playback", "s3:GetObject"),
        (Fault("CreateMultipartUpload", code="AccessDenied"), "composition", "s3:PutObject"),
        (Fault("UploadPartCopy", code="AccessDenied"), "composition", "s3:GetObject"),
        (Fault("ListParts", code="AccessDenied"), "composition", "s3:ListMultipartUploadParts"),
        (Fault("ListMultipartUploads", code="AccessDenied"), "composition", "s3:ListBucketMultipartUploads"),
        (Fault("AbortMultipartUpload", code="AccessDenied"), "composition", "s3:AbortMultipartUpload"),
        (Fault("AbortMultipartUpload", code="AccessDenied", count=2), "composition", "s3:AbortMultipartUpload"),
        (Fault("DeleteObjects", code="AccessDenied", count=2), "delete", "s3:DeleteObject"),
    ],
    ids=lambda value: value.operation if isinstance(value, Fault) else "",
)
async def test_a_missing_right(deployed: Deployed, fault: Fault, found_by: str, right: str) -> None:
    deployed.server.order_fault(fault)
    found = unhealthy(await deployed.examine())
    assert found[found_by].verdict is FAIL
    assert right in found[found_by].cause
    assert rights_in(found[found_by].cause) <= granted_by(found[found_by].terraform)
    assert found[found_by].fix.startswith("aws ")
    # Where the doctor could not remove its objects it names them, and all of them.
    left = "".join(finding.fix for finding in found.values() if finding.check in {"delete", "composition"})
    assert [key for key in deployed.leftovers() if key not in left] == []


async def test_a_composition_that_s3_interrupts_is_aborted(deployed: Deployed) -> None:
    async with opened(deployed.deployment) as patient:
        await valid_upload(patient)
        deployed.server.order_fault(Fault("UploadPartCopy", code="SlowDown", status=503, count=9))
        with pytest.raises(StorageUnavailable):
            await composition(patient)
    assert deployed.s3.list_multipart_uploads(Bucket=deployed.bucket).get("Uploads", []) == []


@pytest.mark.parametrize(
    ("look", "command"),
    [
        (configuration.public_access, "get-public-access-block"),
        (configuration.ownership, "get-bucket-ownership-controls"),
        (configuration.encryption, "get-bucket-encryption"),
        (configuration.transport, "get-bucket-policy"),
        (lifecycle.removal, "get-bucket-versioning"),
    ],
)
async def test_a_setting_that_the_keys_may_not_read(
    deployed: Deployed, look: Callable[[Patient], Awaitable[Finding | list[Finding]]], command: str
) -> None:
    deployed.server.order_fault(Fault("ConfigureBucket", code="AccessDenied"))
    async with opened(deployed.deployment) as patient:
        found = await look(patient)
    first = found[0] if isinstance(found, list) else found
    assert (first.verdict, first.detail) == (WARN, "cannot be read (AccessDenied)")
    assert first.fix.startswith(f"aws s3api {command} --bucket {deployed.bucket}")
    assert first.terraform == "output doctor_policy_arn"


async def test_no_origin_is_configured(deployed: Deployed) -> None:
    found = unhealthy(await deployed.examine(page_origins=()))
    assert {name: finding.verdict for name, finding in found.items()} == {"CORS": WARN, "CORS headers": SKIP}
    assert found["CORS"].fix.startswith("export BROKER_CORS_ORIGINS=")


async def test_an_s3_that_resets_connections_during_the_examination(deployed: Deployed) -> None:
    deployed.server.order_fault(Fault("PostObject", reset=True, count=1))
    found = unhealthy(await deployed.examine())
    assert found["upload"].verdict is FAIL
    assert deployed.leftovers() == []
