"""Lifetimes of policies and links: the answer is true even if the broker's credentials expire first."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from freezegun import freeze_time

from broker.errors import CredentialsExpired
from tests.lifecycle.offline import MP4, NOW, ready_media, settings_for, verbs_of


def ending(seconds: int) -> dict[str, object]:
    return {
        "access_key_id": "ASIAEXAMPLE",
        "secret_access_key": "secret",
        "session_token": "token",
        "credential_expiration": NOW + timedelta(seconds=seconds),
    }


@pytest.mark.parametrize(
    ("credentials_end_in", "asked", "told"), [(600, 86_400, 600), (600, 60, 60), (1, 3600, 1), (90_000, 86_400, 86_400)]
)
async def test_a_link_lives_no_longer_than_the_credentials(
    tmp_path: Path, credentials_end_in: int, asked: int, told: int
) -> None:
    settings = settings_for(tmp_path, **ending(credentials_end_in))
    with freeze_time(NOW, real_asyncio=True):
        async with verbs_of(settings) as verbs:
            playback = await verbs.playback(
                await ready_media(settings, verbs), "anna", expires_in=asked, download=False
            )
    assert playback.expires_in == told
    assert playback.expires_at == NOW + timedelta(seconds=told)
    assert parse_qs(urlsplit(playback.signed_url).query)["X-Amz-Expires"] == [str(told)]


@pytest.mark.parametrize(("credentials_end_in", "told"), [(600, 600), (899, 899), (5000, 900)])
async def test_a_policy_lives_no_longer_than_the_credentials(
    tmp_path: Path, credentials_end_in: int, told: int
) -> None:
    with freeze_time(NOW, real_asyncio=True):
        async with verbs_of(settings_for(tmp_path, **ending(credentials_end_in))) as verbs:
            issued = await verbs.issue(MP4, "anna")
    assert issued.expires_in == told
    assert issued.expires_at == issued.media.policy_expires_at == NOW + timedelta(seconds=told)


@pytest.mark.parametrize(("credentials_end_in", "told"), [(600, 600), (5000, 900)])
async def test_the_policies_of_parts_live_no_longer_than_the_credentials(
    tmp_path: Path, credentials_end_in: int, told: int
) -> None:
    with freeze_time(NOW, real_asyncio=True):
        async with verbs_of(settings_for(tmp_path, **ending(credentials_end_in))) as verbs:
            issued = await verbs.issue(MP4._replace(resumable=True), "anna")
    assert issued.parts is not None
    assert issued.parts.expires_in == told
    assert issued.parts.expires_at == NOW + timedelta(seconds=told)


async def test_the_expiry_of_the_credential_chain_is_honored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", (NOW + timedelta(minutes=10)).isoformat())
    settings = settings_for(tmp_path).model_copy(update={"access_key_id": None, "secret_access_key": None})
    with freeze_time(NOW, real_asyncio=True):
        async with verbs_of(settings) as verbs:
            issued = await verbs.issue(MP4, "anna")
            playback = await verbs.playback(
                await ready_media(settings, verbs), "anna", expires_in=86_400, download=False
            )
    assert issued.expires_in == 600
    assert playback.expires_in == 600
    assert issued.fields["x-amz-security-token"] == "token"


async def test_expired_credentials_sign_nothing_and_record_nothing(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, **ending(0))
    with freeze_time(NOW, real_asyncio=True):
        async with verbs_of(settings) as verbs:
            with pytest.raises(CredentialsExpired):
                await verbs.issue(MP4, "anna")
            assert await verbs.list_media("anna", state=None, limit=10, before=None) == []


async def test_a_renewed_policy_never_outlives_its_bound(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, access_key_id="AK", secret_access_key="secret")
    with freeze_time(NOW, real_asyncio=True) as time:
        async with verbs_of(settings) as verbs:
            first = await verbs.issue(MP4, "anna", idempotency_key="k")
            time.tick(timedelta(minutes=50))
            again = await verbs.issue(MP4, "anna", idempotency_key="k")
    assert again.media.id == first.media.id
    assert again.expires_at == NOW + timedelta(hours=1)
