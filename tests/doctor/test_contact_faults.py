"""What keeps the broker from its bucket: it is found, and its line names the cure."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.dev.s3 import Session
from broker.doctor import Verdict, examine
from broker.domain.sigv4 import Credentials
from tests.doctor.answering import answering
from tests.doctor.deployed import Deployed, ill

NOBODY = "http://127.0.0.1:9"
"""An address where nothing listens (the discard service)."""
NOT_LOOKED_AT = {"bucket", "clock"}


async def found(on: Deployed, check: str, verdict: Verdict = Verdict.FAIL, **bucket: Any) -> tuple[str, str]:
    """Examine with another setting of the bucket; return what `check` saw, and what mends it.

    Nothing else may be found; what depends on it is not looked at.
    """
    findings = ill(await on.examine(bucket=bucket))
    assert findings[check].verdict is verdict
    others = {name for name, finding in findings.items() if finding.verdict is not Verdict.SKIP}
    assert others == {check}
    assert findings.keys() - others <= NOT_LOOKED_AT
    assert findings[check].cause
    return findings[check].seen, findings[check].mend


async def test_another_region(deployed: Deployed) -> None:
    seen, mend = await found(deployed, "endpoint", region="us-west-2")
    assert seen.startswith("the bucket is in eu-central-1, AWS_S3_REGION says us-west-2")
    assert mend == "export AWS_S3_REGION=eu-central-1"


@pytest.mark.parametrize(
    ("status", "code", "headers", "words"),
    [
        (301, "PermanentRedirect", {"x_amz_bucket_region": "ap-south-1"}, "export AWS_S3_REGION=ap-south-1"),
        (301, "PermanentRedirect", {}, "aws s3api get-bucket-location"),
        (307, "TemporaryRedirect", {"Location": "https://elsewhere.example/"}, "wait until this answers"),
        (503, "ServiceUnavailable", {}, "curl -sv"),
    ],
)
async def test_an_endpoint_that_sends_elsewhere(
    deployed: Deployed, status: int, code: str, headers: dict[str, str], words: str
) -> None:
    with answering(status, f"<Error><Code>{code}</Code></Error>".encode(), **headers) as url:
        _, mend = await found(deployed, "endpoint", endpoint_url=url)
    assert words in mend


async def test_an_endpoint_where_nobody_is(deployed: Deployed) -> None:
    seen, mend = await found(deployed, "endpoint", endpoint_url=NOBODY)
    assert "does not answer: ConnectError" in seen
    assert "BROKER_S3_ENDPOINT_URL" in mend


async def test_an_endpoint_of_clients_that_is_not_the_brokers(deployed: Deployed) -> None:
    seen, _ = await found(
        deployed, "bucket access", endpoint_url=NOBODY, public_endpoint_url=deployed.server.endpoint_url
    )
    assert seen.startswith("clients reach the bucket, the broker does not")


@pytest.mark.parametrize("offset_seconds", [1200, -1200])
async def test_a_clock_that_is_20_minutes_off(deployed: Deployed, offset_seconds: int) -> None:
    deployed.server.set_clock(offset_seconds)
    seen, mend = await found(deployed, "clock")
    assert seen.startswith("1200 s " if seen[:4] == "1200" else "1199 s ")
    assert seen.endswith("behind S3's" if offset_seconds > 0 else "ahead of S3's")
    assert mend.startswith("timedatectl set-ntp true")


async def test_a_clock_that_is_two_minutes_off(deployed: Deployed) -> None:
    deployed.server.set_clock(120)
    await found(deployed, "clock", Verdict.WARN)


async def test_a_wrong_secret(deployed: Deployed) -> None:
    seen, mend = await found(deployed, "bucket access", credentials=Credentials(deployed.server.access_key, "wrong"))
    assert "SignatureDoesNotMatch" in seen
    assert mend.startswith("aws sts get-caller-identity")


async def test_an_unknown_key(deployed: Deployed) -> None:
    seen, _ = await found(deployed, "bucket access", credentials=Credentials("AKIA0000000000000000", "wrong"))
    assert "InvalidAccessKeyId" in seen


def session(on: Deployed, **ends_in: int) -> tuple[Session, Credentials]:
    """Return temporary keys as the server knows them, and as the environment says them."""
    known = Session(
        f"ASIA{on.bucket[-12:].upper()}0000", "a-secret", "a-token", datetime.now(UTC) + timedelta(**ends_in)
    )
    on.server.add_session(known)
    return known, Credentials(known.access_key, known.secret_key, known.token)


async def test_temporary_keys_that_have_ended_unnoticed(deployed: Deployed) -> None:
    _, keys = session(deployed, minutes=-1)
    findings = ill(await deployed.examine(bucket={"credentials": keys}))
    assert {"credentials", "bucket access"} <= findings.keys()
    assert "ExpiredToken" in findings["bucket access"].seen


async def test_temporary_keys_that_are_known_to_have_ended(deployed: Deployed) -> None:
    known, keys = session(deployed, minutes=-1)
    ended = Credentials(keys.access_key, keys.secret_key, keys.session_token, known.expires_at)
    _, mend = await found(deployed, "credentials", credentials=ended)
    assert mend.startswith("unset AWS_ACCESS_KEY_ID")


async def test_temporary_keys_that_work_and_do_not_say_when_they_end(deployed: Deployed) -> None:
    _, keys = session(deployed, hours=1)
    findings = ill(await deployed.examine(bucket={"credentials": keys}, queue_url=None))
    assert {name: finding.verdict for name, finding in findings.items()} == {"credentials": Verdict.WARN}
    assert findings["credentials"].mend.startswith("export AWS_CREDENTIAL_EXPIRATION=")


async def test_no_keys_at_all(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    seen, _ = await found(deployed, "credentials", credentials=None)
    assert seen.startswith("the AWS credential chain has none")


async def test_a_profile_that_is_not_there(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    described = deployed.deployment
    monkeypatch.setenv("AWS_PROFILE", "of-nobody")
    (finding,) = await examine(described)
    assert (finding.check, finding.verdict) == ("credentials", Verdict.FAIL)
    assert "of-nobody" in finding.seen
    assert "AWS_PROFILE" in finding.cause


async def test_no_such_bucket(deployed: Deployed) -> None:
    seen, mend = await found(deployed, "bucket access", name="of-nobody-at-all")
    assert seen == "there is no bucket of-nobody-at-all"
    assert mend.startswith(
        "aws s3api create-bucket --bucket of-nobody-at-all "
        "--create-bucket-configuration LocationConstraint=eu-central-1"
    )
