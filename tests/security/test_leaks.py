"""No log line and no problem holds a secret, whatever fails."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy
import sqlalchemy.exc

from broker.store.connections.address import parse_url
from broker.store.connections.engine import reading_engine, writing_engine
from tests.security.forging import claims, hs256
from tests.support.databases import sqlite_url
from tests.support.processes import Running, running
from tests.support.serving import bearing

SERVES = r"running on (http://[\d.:]+)"
SECRET = "canary-of-the-signing-secret-0123456789-abcdef"
KEY = "canary/of/the/AWS+secret+key+EXAMPLEKEY99"
KEY_ID = "AKIACANARYOFTHEKEYID"
SESSION = "canary-of-the-session-token//FwoGZXIvYXdzEXAMPLE"
PASSWORD = "canaryofredis"
FILENAME = "canary-of-a-filename.mp4"
METADATA = "canary-of-the-metadata"
TOKEN_CLAIM = "canary-of-a-claim"
KEPT = [SECRET, KEY, KEY_ID, SESSION, PASSWORD, FILENAME, METADATA, TOKEN_CLAIM]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    sqlite_url(tmp_path)
    return tmp_path / "broker.db"


@pytest.fixture
def server(tmp_path: Path, database: Path) -> Iterator[Running]:
    variables = {
        "SECRET_KEY": SECRET,
        "AWS_S3_BUCKET_NAME": "videos",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_SESSION_TOKEN": SESSION,
        "CLOUD_STORAGE_PROVIDER": "s3",
        "BROKER_S3_ENDPOINT_URL": "http://127.0.0.1:9",
        "BROKER_S3_TIMEOUT_SECONDS": "1",
        "BROKER_DATABASE_URL": f"sqlite:///{database}",
        "BROKER_DATABASE_TIMEOUT_SECONDS": "1",
        "BROKER_RATE_LIMIT_STORAGE": f"redis://:{PASSWORD}@127.0.0.1:9/0",
        "BROKER_REDIRECT_ORIGINS": "https://app.example",
        "BROKER_LOG_LEVEL": "debug",
    }
    with running("serve", "--port", "0", cwd=tmp_path, **variables) as server:
        yield server


def canaries_in(text: str, *more: str) -> list[str]:
    """Return which secrets stand in `text`, as they are or in base64."""
    encoded = [base64.b64encode(one.encode()).decode().rstrip("=") for one in KEPT]
    return [one for one in [*KEPT, *encoded, *more] if one in text]


async def test_no_failure_leaks_a_secret(server: Running, database: Path) -> None:
    token = hs256(claims(sub="anna", email=TOKEN_CLAIM), SECRET.encode())
    signature = token.rpartition(".")[2]
    asked = {
        "content_type": "video/mp4",
        "filename": FILENAME,
        "metadata": {"note": METADATA},
        "redirect_url": "https://app.example/done",
    }
    url = server.wait_for(SERVES)[1] + "/api/v1/s3-media"
    answers: list[httpx.Response] = []
    async with httpx.AsyncClient(base_url=url, headers=bearing(token), timeout=30) as client:

        async def ask(method: str, path: str, **options: Any) -> httpx.Response:
            answer = await client.request(method, path, **options)
            answers.append(answer)
            return answer

        issued = await ask("POST", "/upload", json=asked, headers={"Idempotency-Key": "k"})
        assert issued.status_code == 201
        answers.remove(issued)
        fields = issued.json()["upload"]["fields"]
        media_id = issued.json()["media_id"]
        state = fields["success_action_redirect"].rpartition("/")[2]
        secrets = [token, signature, fields["policy"], fields["x-amz-signature"], state]

        machine = bearing(hs256(claims(sub="backend", scope="media:upload media:delegate"), SECRET.encode()))
        on_behalf = await ask("POST", "/upload", json={"content_type": "video/mp4", "owner": "anna"}, headers=machine)
        answers.remove(on_behalf)
        upload_token = on_behalf.json()["upload_token"]
        secrets.append(upload_token)
        own = bearing(upload_token)
        assert (await ask("POST", f"/{on_behalf.json()['media_id']}/complete", headers=own)).status_code == 503
        assert (await ask("GET", f"/{media_id}", headers=own)).status_code == 404
        assert (await ask("GET", "/", headers=own)).status_code == 403
        assert (await ask("GET", "/", headers=bearing(f"{upload_token}x"))).status_code == 401
        assert (await ask("GET", f"/{upload_token}")).status_code == 422
        assert (await ask("GET", "/", params={"cursor": upload_token[:60]})).status_code == 422

        assert (await ask("POST", f"/{media_id}/complete")).status_code == 503
        assert (await ask("GET", "/health/s3")).status_code == 503
        assert (await ask("GET", f"/{media_id}")).status_code == 409
        assert (await ask("GET", f"/{media_id}/uploaded/{state}")).status_code == 303
        assert (await ask("GET", f"/{media_id}/uploaded/{state}x")).status_code == 404
        assert (await ask("GET", f"/{token}")).status_code == 422
        assert (await ask("GET", "/", params={"cursor": fields["policy"][:60]})).status_code == 422
        assert (await ask("POST", "/upload", json={**asked, "policy": fields["policy"]})).status_code == 422
        assert (await ask("POST", "/upload", json={**asked, "filename": {"a": token}})).status_code == 422
        assert (await ask("POST", "/upload", content=token.encode())).status_code == 422
        changed = await ask("POST", "/upload", json={**asked, "size": 7}, headers={"Idempotency-Key": "k"})
        assert changed.status_code == 422
        assert (await ask("GET", "/", headers=bearing(token[:-2]))).status_code == 401
        assert (await ask("GET", "/", headers={"Authorization": f"Basic {token}"})).status_code == 401
        assert (await ask("GET", "/", headers={"X-Request-ID": token})).status_code == 200
        (database.parent / "gone").mkdir()
        for file in database.parent.glob("broker.db*"):
            file.rename(database.parent / "gone" / file.name)
        database.mkdir()
        assert (await ask("POST", "/upload", json=asked)).status_code in (201, 503)
        assert (await ask("GET", "/../../" + token)).status_code in (404, 422)
    assert server.end() in (0, -2)
    problems = "\n".join(answer.text for answer in answers if answer.status_code >= 400)
    assert canaries_in(server.said, *secrets) == []
    assert canaries_in(problems, *secrets) == []
    lines = [json.loads(line) for line in server.lines if line.startswith("{")]
    requests = [line for line in lines if line.get("event") == "request"]
    assert len(requests) == len(answers) + 2
    assert all(re.fullmatch(r"[\w.=-]{1,64}", line["request_id"]) for line in requests)


async def test_a_hook_that_fails_leaks_no_secret(tmp_path: Path, database: Path) -> None:
    signing = f"whsec_{base64.b64encode(b'canary-of-the-hook-secret-0123456').decode()}"
    variables = {
        "SECRET_KEY": SECRET,
        "AWS_S3_BUCKET_NAME": "videos",
        "BROKER_DATABASE_URL": f"sqlite:///{database}",
        "BROKER_ISSUE_HOOK_URL": "https://127.0.0.1:9/canary-of-a-path?key=canary-of-a-key",
        "BROKER_ISSUE_HOOK_SECRETS": signing,
        "BROKER_LOG_LEVEL": "debug",
    }
    asked = {"content_type": "video/mp4", "filename": FILENAME, "metadata": {"note": METADATA}}
    with running("serve", "--port", "0", cwd=tmp_path, **variables) as server:
        url = server.wait_for(SERVES)[1] + "/api/v1/s3-media"
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            token = hs256(claims(sub="anna"), SECRET.encode())
            answer = await client.post("/upload", json=asked, headers=bearing(token))
        assert server.end() in (0, -2)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:s3-media:problem:application-away")
    assert "the issue hook gave no decision" in server.said
    for text in (server.said, answer.text):
        assert canaries_in(text, token, signing, "canary-of-a-path", "canary-of-a-key", "127.0.0.1:9") == []


def test_a_failed_start_names_settings_but_no_value(tmp_path: Path) -> None:
    variables = {"SECRET_KEY": SECRET[:20], "AWS_SECRET_ACCESS_KEY": KEY, "BROKER_POLICY_SECONDS": METADATA}
    with running("serve", "--port", "0", cwd=tmp_path, **variables) as server:
        assert server.process.wait(30) == 2
    assert canaries_in(server.said, SECRET[:20]) == []
    for name in ("SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "BROKER_POLICY_SECONDS", "AWS_S3_BUCKET_NAME"):
        assert name in server.said


@pytest.mark.parametrize("engine_of", [writing_engine, partial(reading_engine, pool_size=1)], ids=["writes", "reads"])
def test_an_error_of_the_database_holds_no_parameters(
    tmp_path: Path, engine_of: Callable[..., sqlalchemy.Engine]
) -> None:
    engine = engine_of(parse_url(f"sqlite:///{tmp_path}/broker.db"), timeout_seconds=1)
    table = sqlalchemy.Table("t", sqlalchemy.MetaData(), sqlalchemy.Column("filename", sqlalchemy.Text, unique=True))
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), {"filename": FILENAME})
        with pytest.raises(sqlalchemy.exc.IntegrityError) as raised:
            connection.execute(table.insert(), {"filename": FILENAME})
    engine.dispose()
    assert FILENAME not in str(raised.value)
