"""Unsafe settings are refused or warned about at the start, and active types are only downloaded."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from broker.domain.media import Event
from broker.errors import SettingsInvalid
from broker.store import Store, migrate
from tests.support.processes import running
from tests.support.serving import SECRET, bearing, served, settings_of, token


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"secret_key": "short"}, "SECRET_KEY"),
        ({"secret_key": "a" * 64}, "SECRET_KEY"),
        ({"cors_origins": "*"}, "BROKER_CORS_ORIGINS"),
        ({"cors_origins": "null"}, "BROKER_CORS_ORIGINS"),
        ({"cors_origins": "https://app.example/"}, "BROKER_CORS_ORIGINS"),
        ({"cors_origins": "https://*.example"}, "BROKER_CORS_ORIGINS"),
        ({"redirect_origins": "*"}, "BROKER_REDIRECT_ORIGINS"),
        ({"jwks_url": "http://login.example/keys"}, "BROKER_JWKS_URL"),
        ({"jwks_url": "http://login.example/keys", "jwks_loopback_http": True}, "BROKER_JWKS_URL"),
        ({"jwks_url": "https://login.example/keys", "jwt_algorithm": "HS256"}, "BROKER_JWT_ALGORITHM"),
        ({"jwt_algorithm": "none"}, "BROKER_JWT_ALGORITHM"),
        ({"trusted_proxies": "0.0.0.0/0"}, "BROKER_TRUSTED_PROXIES"),
        ({"trusted_proxies": "*"}, "BROKER_TRUSTED_PROXIES"),
        ({"trusted_proxies": "::"}, "BROKER_TRUSTED_PROXIES"),
        ({"trusted_proxies": "::ffff:0.0.0.0/96"}, "BROKER_TRUSTED_PROXIES"),
        ({"trusted_proxies": "10.0.0.1,::/0"}, "BROKER_TRUSTED_PROXIES"),
        ({"cloud_storage_provider": "r2"}, "CLOUD_STORAGE_PROVIDER"),
        *(
            ({"allowed_types": f"video/mp4,{active}"}, "BROKER_ALLOW_ACTIVE_TYPES")
            for active in ("text/html", "image/svg+xml", "application/xml", "text/javascript", "application/xhtml+xml")
        ),
    ],
    ids=str,
)
def test_a_start_refuses(wrong: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        settings_of(tmp_path, **wrong)
    assert named in str(refused.value)


@pytest.mark.parametrize("networks", ["0.0.0.0/1,128.0.0.0/2", "0.0.0.0/8", "::/8"])
def test_a_network_that_begins_with_zeros_is_accepted(tmp_path: Path, networks: str) -> None:
    assert settings_of(tmp_path, trusted_proxies=networks, private_networks=networks).private_networks


async def test_an_active_type_is_only_ever_downloaded(tmp_path: Path) -> None:
    settings = {"allowed_types": "video/mp4,text/html", "allow_active_types": True}
    async with served(tmp_path, **settings) as client:
        anna = bearing(token("anna"))
        for content_type, downloads in [("text/html", True), ("video/mp4", False)]:
            issued = await client.post("/upload", json={"content_type": content_type}, headers=anna)
            media_id = issued.json()["media_id"]
            await _make_ready(f"sqlite:///{tmp_path}/broker.db", UUID(media_id))
            link = (await client.get(f"/{media_id}", headers=anna)).json()["signed_url"]
            asked = parse_qs(urlsplit(link).query).get("response-content-disposition", [""])[0]
            assert asked.startswith("attachment;") is downloads


def test_an_embedded_s3_is_refused_unless_requested(tmp_path: Path) -> None:
    with running("serve", cwd=tmp_path, SECRET_KEY=SECRET, USE_CLOUD_STORAGE="false") as server:
        assert server.process.wait(30) == 2
    assert "--embedded-s3" in server.said


def test_a_start_warns_about_tokens_for_any_audience(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/broker.db"
    migrate(url)
    known = {"SECRET_KEY": SECRET, "AWS_S3_BUCKET_NAME": "videos", "BROKER_DATABASE_URL": url}
    closed = {"BROKER_JWT_ISSUER": "https://login.example/", "BROKER_JWT_AUDIENCE": "broker"}
    for variables, warned in [(known, True), (known | closed, False)]:
        with running("serve", "--port", "0", cwd=tmp_path, **variables) as server:
            server.wait_for(r"running on http")
            server.end()
        for name in closed:
            assert (name in server.said) is warned


async def _make_ready(url: str, media_id: UUID) -> None:
    """Record that a media was uploaded and promoted, without an S3: only links are signed for it here."""
    store = Store(url)
    media = await store.get(media_id, None)
    promoting = await store.change(media, Event.MATCH, size=1, etag="e", judgements=1)
    assert promoting is not None
    assert await store.change(promoting, Event.PROMOTE, ready_at=media.created_at)
    await store.close()
