"""Faults between the broker and its bucket: each is found with its fix."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.dev.s3 import Session
from broker.doctor import Verdict, examine
from broker.domain.s3.sigv4 import Credentials
from tests.doctor.answering import answering
from tests.doctor.deployed import Deployed, unhealthy

UNUSED = "http://127.0.0.1:9"
"""An address where nothing listens (the discard service)."""
NOT_LOOKED_AT = {"bucket", "clock"}


async def found(on: Deployed, check: str, verdict: Verdict = Verdict.FAIL, **bucket: Any) -> tuple[str, str]:
    """Examine with another setting of the bucket; return the detail and the fix of `check`.

    Nothing else may be found; what depends on it is not looked at.
    """
    findings = unhealthy(await on.examine(bucket=bucket))
    assert findings[check].verdict is verdict
    others = {name for name, finding in findings.items() if finding.verdict is not Verdict.SKIP}
    assert others == {check}
    assert findings.keys() - others <= NOT_LOOKED_AT
    assert findings[check].cause
    return findings[check].detail, findings[check].fix


async def test_another_region(deployed: Deployed) -> None:
    detail, fix = await found(deployed, "endpoint", region="us-west-2")
    assert detail.startswith("the bucket is in eu-central-1, but AWS_S3_REGION is us-west-2")
    assert fix == "export AWS_S3_REGION=eu-central-1"


@pytest.mark.parametrize(
    ("status", "code", "headers", "words"),
    [
        (301, "PermanentRedirect", {"x_amz_bucket_region": "ap-south-1"}, "export AWS_S3_REGION=ap-south-1"),
        (301, "PermanentRedirect", {}, "aws s3api get-bucket-location"),
        (307, "TemporaryRedirect", {"Location": "https://elsewhere.example/"}, "wait until this answers"),
        (503, "ServiceUnavailable", {}, "curl -sv"),
    ],
)
async def test_an_endpoint_that_redirects(
    deployed: Deployed, status: int, code: str, headers: dict[str, str], words: str
) -> None:
    with answering(status, f"<Error><Code>{code}</Code></Error>".encode(), **headers) as url:
        _, fix = await found(deployed, "endpoint", endpoint_url=url)
    assert words in fix


async def test_an_endpoint_that_does_not_answer(deployed: Deployed) -> None:
    detail, fix = await found(deployed, "endpoint", endpoint_url=UNUSED)
    assert "does not answer: ConnectError" in detail
    assert "BROKER_S3_ENDPOINT_URL" in fix


async def test_an_endpoint_of_clients_that_is_not_the_brokers(deployed: Deployed) -> None:
    detail, _ = await found(
        deployed, "bucket access", endpoint_url=UNUSED, public_endpoint_url=deployed.server.endpoint_url
    )
    assert detail.startswith("clients reach the bucket, the broker does not")


@pytest.mark.parametrize("offset_seconds", [1200, -1200])
async def test_a_clock_that_is_20_minutes_off(deployed: Deployed, offset_seconds: int) -> None:
    deployed.server.set_clock(offset_seconds)
    detail, fix = await found(deployed, "clock")
    assert detail.startswith("1200 s " if detail[:4] == "1200" else "1199 s ")
    assert detail.endswith("behind S3's" if offset_seconds > 0 else "ahead of S3's")
    assert fix.startswith("timedatectl set-ntp true")


async def test_a_clock_that_is_two_minutes_off(deployed: Deployed) -> None:
    deployed.server.set_clock(120)
    await found(deployed, "clock", Verdict.WARN)


async def test_a_wrong_secret(deployed: Deployed) -> None:
    detail, fix = await found(deployed, "bucket access", credentials=Credentials(deployed.server.access_key, "wrong"))
    assert "SignatureDoesNotMatch" in detail
    assert fix.startswith("aws sts get-caller-identity")


async def test_an_unknown_key(deployed: Deployed) -> None:
    detail, _ = await found(deployed, "bucket access", credentials=Credentials("AKIA0000000000000000", "wrong"))
    assert "InvalidAccessKeyId" in detail


def session(on: Deployed, **ends_in: int) -> tuple[Session, Credentials]:
    """Return temporary keys as the server knows them, and as the environment says them."""
    known = Session(
        f"ASIA{on.bucket[-12:].upper()}0000", "a-secret", "a-token", datetime.now(UTC) + timedelta(**ends_in)
    )
    on.server.add_session(known)
    return known, Credentials(known.access_key, known.secret_key, known.token)


async def test_expired_temporary_keys_without_an_expiration(deployed: Deployed) -> None:
    _, keys = session(deployed, minutes=-1)
    findings = unhealthy(await deployed.examine(bucket={"credentials": keys}))
    assert {"credentials", "bucket access"} <= findings.keys()
    assert "ExpiredToken" in findings["bucket access"].detail


async def test_expired_temporary_keys_with_an_expiration(deployed: Deployed) -> None:
    known, keys = session(deployed, minutes=-1)
    ended = Credentials(keys.access_key, keys.secret_key, keys.session_token, known.expires_at)
    _, fix = await found(deployed, "credentials", credentials=ended)
    assert fix.startswith("unset AWS_ACCESS_KEY_ID")


async def test_valid_temporary_keys_without_an_expiration(deployed: Deployed) -> None:
    _, keys = session(deployed, hours=1)
    findings = unhealthy(await deployed.examine(bucket={"credentials": keys}, queue_url=None))
    assert {name: finding.verdict for name, finding in findings.items()} == {"credentials": Verdict.WARN}
    assert findings["credentials"].fix.startswith("export AWS_CREDENTIAL_EXPIRATION=")


async def test_no_keys_at_all(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    detail, _ = await found(deployed, "credentials", credentials=None)
    assert detail.startswith("the AWS credential chain has no valid keys")


async def test_a_profile_that_is_not_there(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    described = deployed.deployment
    monkeypatch.setenv("AWS_PROFILE", "of-another")
    (finding,) = await examine(described)
    assert (finding.check, finding.verdict) == ("credentials", Verdict.FAIL)
    assert "of-another" in finding.detail
    assert "AWS_PROFILE" in finding.cause


async def test_no_such_bucket(deployed: Deployed) -> None:
    detail, fix = await found(deployed, "bucket access", name="of-another-at-all")
    assert detail == "there is no bucket of-another-at-all"
    assert fix.startswith(
        "aws s3api create-bucket --bucket of-another-at-all "
        "--create-bucket-configuration LocationConstraint=eu-central-1"
    )
