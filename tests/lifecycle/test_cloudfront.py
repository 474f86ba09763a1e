"""Links through CloudFront, if a key pair is set."""

import base64
import json
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.domain.keys import final_key
from broker.errors import SettingsInvalid
from tests.lifecycle.offline import NOW, ready_media, settings_for, verbs_of

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
KEYS = {"access_key_id": "AK", "secret_access_key": "secret"}
CLOUDFRONT = {
    "cloudfront_url": "https://media.example",
    "cloudfront_key_id": "K2EXAMPLE",
    "cloudfront_private_key": PEM,
}


def decoded(text: str) -> bytes:
    """Decode CloudFront's variant of base64."""
    return base64.b64decode(text.replace("-", "+").replace("_", "=").replace("~", "/"))


@pytest.mark.parametrize("download", [False, True])
async def test_a_link_points_to_the_distribution_and_is_signed_by_the_key_pair(tmp_path: Path, download: bool) -> None:
    settings = settings_for(tmp_path, **KEYS, **CLOUDFRONT)
    began = int(time.time())
    async with verbs_of(settings) as verbs:
        media_id = await ready_media(settings, verbs)
        playback = await verbs.playback(media_id, "anna", expires_in=7200, download=download)
    asked, _, signed = playback.signed_url.partition("Expires=")
    query = parse_qs(f"Expires={signed}")
    assert playback.signed_url.startswith(f"https://media.example/{final_key(media_id, 'video/mp4', 0)}?")
    assert ("response-content-disposition=attachment" in asked) is download
    assert playback.expires_in == 7200
    assert int(query["Expires"][0]) == int(playback.expires_at.timestamp()) >= began + 7200
    assert query["Key-Pair-Id"] == ["K2EXAMPLE"]
    policy = {
        "Statement": [
            {
                "Resource": asked.rstrip("?&"),
                "Condition": {"DateLessThan": {"AWS:EpochTime": int(query["Expires"][0])}},
            }
        ]
    }
    written = json.dumps(policy, separators=(",", ":")).encode()
    KEY.public_key().verify(decoded(query["Signature"][0]), written, padding.PKCS1v15(), SHA1())  # noqa: S303


async def test_a_link_does_not_expire_with_the_credentials_of_the_broker(tmp_path: Path) -> None:
    soon = {**KEYS, "session_token": "token", "credential_expiration": NOW}
    settings = settings_for(tmp_path, **KEYS, **CLOUDFRONT)
    async with verbs_of(settings) as verbs:
        media_id = await ready_media(settings, verbs)
    async with verbs_of(settings_for(tmp_path, **soon, **CLOUDFRONT)) as verbs:
        assert (await verbs.playback(media_id, "anna", expires_in=60, download=False)).expires_in == 60


@pytest.mark.parametrize(
    "wrong",
    [
        {"cloudfront_private_key": "no key"},
        {"cloudfront_private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"},
        {"cloudfront_key_id": None},
        {"cloudfront_url": None},
    ],
    ids=str,
)
def test_an_incomplete_key_pair_is_refused_at_the_start(tmp_path: Path, wrong: dict[str, str | None]) -> None:
    with pytest.raises(SettingsInvalid, match="BROKER_CLOUDFRONT_PRIVATE_KEY"):
        settings_for(tmp_path, **KEYS, **{**CLOUDFRONT, **wrong})


def test_the_private_key_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(PEM)
    settings = settings_for(tmp_path, **KEYS, **{**CLOUDFRONT, "cloudfront_private_key": str(tmp_path / "key.pem")})
    assert settings.cloudfront == ("https://media.example", "K2EXAMPLE", PEM)
    assert PEM not in repr(settings)
    assert urlsplit(settings.cloudfront[0]).scheme == "https"
