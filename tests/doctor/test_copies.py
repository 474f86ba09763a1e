"""The doctor's own copies: they carry what the broker's do, and each answer to them is named as what it is."""

from dataclasses import replace
from typing import Any

import pytest

from broker.dev.s3 import Fault
from broker.doctor import Verdict
from broker.doctor.checks.promotion import promotion
from broker.doctor.checks.trial import valid_upload
from broker.doctor.deployment import opened
from broker.domain.s3.properties import ObjectProperties
from tests.doctor.deployed import Deployed, unhealthy

COPIES_BEFORE_THE_LAST = 3
"""The copy of an overwritten upload, the comparison and the promotion."""


@pytest.mark.parametrize(
    ("code", "status"), [("AccessDenied", 403), ("ConditionalRequestConflict", 409), ("NotImplemented", 501)]
)
async def test_a_second_copy_that_s3_refuses_for_another_reason_replaces_nothing(
    code: str, status: int, deployed: Deployed
) -> None:
    deployed.server.order_fault(Fault("CopyObject", count=COPIES_BEFORE_THE_LAST))
    deployed.server.order_fault(Fault("CopyObject", code=code, status=status))
    found = unhealthy(await deployed.examine())
    assert {check: finding.verdict for check, finding in found.items()} == {"second copy": Verdict.WARN}
    assert found["second copy"].detail == f"a copy to an existing object is answered with {status} {code}, not 412"
    assert "replaces" not in found["second copy"].cause


async def test_the_doctors_copies_carry_what_the_brokers_do(deployed: Deployed) -> None:
    # S3 requires s3:GetObjectTagging for a copy without a tagging directive, and the broker has no such right.
    properties = ObjectProperties("AES256", None, (("team", "media + films"),), "STANDARD_IA", "max-age=60")
    config = replace(deployed.deployment.bucket, properties=properties)
    sent: list[dict[str, str]] = []

    def record(request: Any, **_: Any) -> None:
        decoded = {
            name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
        }
        sent.append({name.lower(): value for name, value in decoded.items()})

    async with opened(replace(deployed.deployment, bucket=config)) as patient:
        patient.s3.meta.events.register("before-send.s3.CopyObject", record)
        assert (await valid_upload(patient))[0].verdict is Verdict.OK
        assert {finding.verdict for finding in await promotion(patient)} == {Verdict.OK}
        await patient.bucket.deletion.purge(patient.staging_key("upload"), patient.final_key())
    directives = {"x-amz-metadata-directive": "REPLACE", "x-amz-tagging-directive": "REPLACE"}
    assert len(sent) == 2
    for headers in sent:
        assert (properties.final_headers() | directives).items() <= headers.items()
