"""`broker serve`, `migrate`, `token` and `worker`, as an operator runs them."""

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from broker.api.auth.caller import ADMIN, DELETE, READ, UPLOAD, Caller
from broker.api.auth.keys import FixedKey
from broker.api.auth.tokens import Authenticator, RememberedTokens
from broker.settings import load_settings
from broker.wiring import token_rules
from tests.support.processes import CLIP, done, read_variables, running
from tests.support.waiting import until

SECRET = "an operator's secret of more than 32 bytes"
VALID = {"SECRET_KEY": SECRET, "AWS_S3_BUCKET_NAME": "videos", "AWS_S3_REGION": "eu-central-1"}
SERVES = r"running on (http://127\.0\.0\.1:\d+)"


def test_every_wrong_setting_is_named_before_anything_starts(tmp_path: Path) -> None:
    wrong = {
        "SECRET_KEY": "an-overly-short-secret",
        "MAX_FILE_SIZE": "six",
        "BROKER_POLICY_SECONDS": "7200",
        "BROKER_CORS_ORIGINS": "*",
        "BROKER_DATABASE_URL": "mysql://root@127.0.0.1/broker",
    }
    refused = done("serve", cwd=tmp_path, **wrong)
    assert (refused.returncode, refused.stdout) == (2, "")
    named = dict(line.split(": ", 1) for line in refused.stderr.splitlines())
    assert set(named) == {*wrong, "AWS_S3_BUCKET_NAME"}
    assert wrong["SECRET_KEY"] not in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        ([], {"USE_CLOUD_STORAGE": "false"}, "USE_CLOUD_STORAGE: should be true; false is for `broker dev`"),
        (
            ["--workers", "2"],
            {},
            "--workers: should be 1 with SQLite, which has one writer; for more set BROKER_DATABASE_URL=postgresql://",
        ),
        (["--workers", "2", "--embedded-s3"], {"USE_CLOUD_STORAGE": "false"}, "--workers: should be 1 with the"),
        ([], {}, "BROKER_DATABASE_URL: lacks revision"),
    ],
)
def test_settings_that_cannot_be_served_are_refused(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], words: str
) -> None:
    refused = done("serve", "--port", "0", *arguments, cwd=tmp_path, **VALID | variables)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(words)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_refuses_the_same_settings_as_a_server(tmp_path: Path) -> None:
    embedded = done("worker", cwd=tmp_path, **VALID | {"USE_CLOUD_STORAGE": "false"})
    assert (embedded.returncode, embedded.stderr.partition(":")[0]) == (2, "USE_CLOUD_STORAGE")
    unmigrated = done("worker", cwd=tmp_path, **VALID)
    assert (unmigrated.returncode, unmigrated.stderr.partition(":")[0]) == (2, "BROKER_DATABASE_URL")


def test_a_migration_reports_why_its_database_is_unavailable(tmp_path: Path) -> None:
    refused = done("migrate", cwd=tmp_path, BROKER_DATABASE_URL="postgresql://anna:a-pass@word@nowhere.invalid/broker")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "failed to resolve host '[redacted]@nowhere.invalid'" in refused.stderr
    assert "pass" not in refused.stderr


@pytest.mark.parametrize("command", ["serve --port 0 --workers 1", "worker"])
@pytest.mark.parametrize(
    ("database", "reason"),
    [
        ("anna:a-password@127.0.0.1:1", "OperationalError: connection failed: .*Connection refused"),
        ("anna:a-pass@word-of-hers@nowhere.invalid", r"OperationalError: failed to resolve host '\[redacted\]@nowhere"),
    ],
)
def test_the_first_json_line_reports_why_the_database_is_unavailable(
    tmp_path: Path, command: str, database: str, reason: str
) -> None:
    variables = VALID | {"BROKER_DATABASE_URL": f"postgresql://{database}/broker"}
    with running(*command.split(), cwd=tmp_path, **variables) as server:
        server.wait_for("the database is unavailable, so its revision is unknown")
        line = json.loads(server.lines[0])
    assert line["event"] == "the database is unavailable, so its revision is unknown"
    assert re.match(reason, line["reason"])
    assert "word" not in server.said


def test_a_migration_needs_only_a_database_and_reports_its_revision(tmp_path: Path) -> None:
    first, second = (done("migrate", cwd=tmp_path, BROKER_DATABASE_URL="sqlite:///kept.db") for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.startswith("sqlite:///kept.db is now at revision ")
    assert (second.stdout, second.stderr) == ("sqlite:///kept.db is up to date.\n", "")
    assert (tmp_path / "kept.db").exists()


def test_a_migration_without_a_configured_database_says_which_file_it_makes(tmp_path: Path) -> None:
    migrated = done("migrate", cwd=tmp_path)
    assert migrated.stdout.startswith("sqlite:///broker.db is now at revision ")
    assert migrated.stderr == (
        f"BROKER_DATABASE_URL is not set, so the database is the SQLite file {tmp_path.resolve() / 'broker.db'}.\n"
    )


@pytest.mark.parametrize("command", ["migrate", "serve", "worker"])
def test_a_database_without_its_directory_is_named(tmp_path: Path, command: str) -> None:
    refused = done(command, cwd=tmp_path, **VALID | {"BROKER_DATABASE_URL": "sqlite:///absent/broker.db"})
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("BROKER_DATABASE_URL: should name a file in an existing, writable directory")
    assert "absent/broker.db" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_migrating_an_unavailable_database_reports_the_reason_without_the_password(tmp_path: Path) -> None:
    away = "postgresql://ann:hidden-password@127.0.0.1:1/broker"
    refused = done("migrate", cwd=tmp_path, BROKER_DATABASE_URL=away)
    assert (refused.returncode, refused.stdout) == (1, "")
    said, cause = refused.stderr.splitlines()
    assert said == "The database is unavailable; retry in a moment."
    assert "Connection refused" in cause
    assert "hidden-password" not in cause


def test_minting_a_token_needs_only_a_secret(tmp_path: Path) -> None:
    assert done("token", cwd=tmp_path).stderr.startswith("SECRET_KEY: should be a random secret of at least 32 bytes")
    assert done("token", cwd=tmp_path, SECRET_KEY=SECRET).stdout.count(".") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sub", ""], "--sub: should be 1 to 255 printable characters, with no space at either end\n"),
        (["--sub", " anna"], "--sub: should be"),
        (["--sub", "a" * 256], "--sub: should be"),
        (["--scope", "media:foo"], "--scope: should name permissions, separated by spaces: media:upload, media:read"),
        (["--scope", "media:read media:foo"], "--scope: should name"),
        (["--scope", "media:read,media:upload"], "--scope: should name"),
        (["--scope", " "], "--scope: should name"),
    ],
)
def test_a_useless_token_is_not_minted(tmp_path: Path, arguments: list[str], words: str) -> None:
    refused = done("token", *arguments, cwd=tmp_path, SECRET_KEY=SECRET)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(words)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"BROKER_JWT_ALGORITHM": "HS512"},
        {"BROKER_JWT_ISSUER": "https://id.example/,https://other.example/"},
        {"BROKER_JWT_AUDIENCE": "broker,shop"},
        {"BROKER_JWT_AUDIENCE": "broker", "BROKER_JWT_AUDIENCE_CLAIM": "client_id"},
        {"BROKER_JWT_OWNER_CLAIM": "oid"},
        {"BROKER_JWT_PERMISSION_PREFIX": "https://api.example/"},
        {"BROKER_JWT_PERMISSION_CLAIMS": "resource_access.my.app.roles,roles"},
    ],
    ids=str,
)
async def test_a_printed_token_passes_the_same_settings(tmp_path: Path, variables: dict[str, str]) -> None:
    file, secret = tmp_path / ".env", SECRET * 2
    file.write_text("".join(f"{name}={value}\n" for name, value in (variables | {"SECRET_KEY": secret}).items()))
    prefix = variables.get("BROKER_JWT_PERMISSION_PREFIX", "")
    printed = done("token", "--sub", "anna", "--scope", f"media:* {prefix}media:admin", cwd=tmp_path)
    assert printed.returncode == 0, printed.stderr
    rules = token_rules(load_settings(file, use_cloud_storage=False))
    verifier = Authenticator(FixedKey(secret.encode()), rules, RememberedTokens(size=0, seconds=0))
    caller = await verifier.caller(printed.stdout.strip())
    assert caller == Caller("anna", frozenset({UPLOAD, READ, DELETE, ADMIN}))


def test_no_token_is_printed_if_only_a_private_key_can_sign_it(tmp_path: Path) -> None:
    refused = done("token", cwd=tmp_path, SECRET_KEY=SECRET, BROKER_JWKS_URL="https://id.example/jwks")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(
        "BROKER_JWKS_URL, BROKER_JWT_PUBLIC_KEY: one is set, so tokens are signed by RS256"
    )


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """Run an S3, migrate a database, and return the directory and the environment of a broker on both."""
    cwd = tmp_path_factory.mktemp("serve")
    with running("dev", "--s3-only", "--port", "0", cwd=cwd) as s3:
        s3.wait_for("BROKER_S3_PATH_STYLE=true")
        (cwd / ".env").write_text("BROKER_POLICY_SECONDS=7\nMAX_FILE_SIZE=20000\n")
        variables = {**read_variables(s3.said), "SECRET_KEY": SECRET, "BROKER_POLICY_SECONDS": "5"}
        assert done("migrate", cwd=cwd, **variables).returncode == 0
        yield cwd, variables
        assert s3.end() == 0


def _token(cwd: Path, variables: dict[str, str], *options: str) -> str:
    return done("token", *options, cwd=cwd, **variables).stdout.strip()


def test_the_environment_overrides_the_env_file(
    deployed: tuple[Path, dict[str, str]],
) -> None:
    cwd, variables = deployed
    token = _token(cwd, variables, "--sub", "anna", "--ttl", "60")
    with running("serve", "--port", "0", cwd=cwd, **variables) as server:
        url = server.wait_for(SERVES)[1] + "/api/v1/s3-media"
        uploaded = done("upload", str(CLIP), cwd=cwd, BROKER_URL=url, BROKER_TOKEN=token)
        assert uploaded.returncode == 0, uploaded.stderr
        assert httpx.get(uploaded.stdout.strip()).content == CLIP.read_bytes()
        asked = {"content_type": "video/mp4"}
        issued = httpx.post(f"{url}/upload", json=asked, headers={"Authorization": f"Bearer {token}"})
        assert (issued.json()["max_size"], issued.json()["expires_in"]) == (20000, 5)
        assert "server" not in issued.headers
        assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
        assert "Traceback" not in server.said
        assert "color_message" not in server.said


def test_no_line_is_for_a_terminal_or_asks_for_a_websocket_library(deployed: tuple[Path, dict[str, str]]) -> None:
    cwd, variables = deployed
    with running("serve", "--port", "0", cwd=cwd, **variables) as server:
        address = server.wait_for(SERVES)[1]
        for upgrade in ("h2c", "websocket"):
            asked = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": upgrade, "HTTP2-Settings": ""}
            assert httpx.get(f"{address}/healthz", headers=asked).status_code == 200
        assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    assert "color_message" not in server.said
    assert "pgrade" not in server.said
    assert "WebSocket" not in server.said


@contextmanager
def _asked(address: str, method: str, path: str, headers: dict[str, str], body: str = "") -> Iterator[socket.socket]:
    """Yield a connection whose request the server has read."""
    url = httpx.URL(address)
    lines = [f"{method} /api/v1/s3-media{path} HTTP/1.1", "Host: a", *map(": ".join, headers.items()), "", body]
    with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
        connection.sendall("\r\n".join(lines).encode())
        assert httpx.get(f"{address}/healthz").status_code == 200  # it came later, and has its answer
        yield connection


def test_a_waiting_request_is_answered_when_the_server_stops(deployed: tuple[Path, dict[str, str]]) -> None:
    cwd, variables = deployed
    bearer = {"Authorization": f"Bearer {_token(cwd, variables)}"}
    with running("serve", "--port", "0", cwd=cwd, **variables) as server:
        address = server.wait_for(SERVES)[1]
        url = f"{address}/api/v1/s3-media"
        issued = httpx.post(f"{url}/upload", json={"content_type": "video/mp4"}, headers=bearer).json()
        with _asked(address, "GET", f"/{issued['media_id']}?wait=25", bearer) as waiting:
            began = time.monotonic()
            assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
            assert waiting.recv(65536).startswith(b"HTTP/1.1 409 ")
            assert time.monotonic() - began < 25 / 2
        assert "Traceback" not in server.said


def test_a_request_that_does_not_end_in_time_gets_a_problem(deployed: tuple[Path, dict[str, str]]) -> None:
    cwd, variables = deployed
    headers = {
        "Authorization": f"Bearer {_token(cwd, variables)}",
        "Content-Type": "application/json",
        "Content-Length": "40",
    }
    with running("serve", "--port", "0", "--graceful-seconds", "1", cwd=cwd, **variables) as server:
        with _asked(server.wait_for(SERVES)[1], "POST", "/upload", headers, "{") as connection:
            assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"application/problem+json" in answer
        assert "Traceback" not in server.said


@pytest.mark.parametrize(("trusted", "scheme"), [({}, "http"), ({"BROKER_TRUSTED_PROXIES": "127.0.0.1"}, "https")])
def test_only_a_configured_proxy_is_trusted(
    deployed: tuple[Path, dict[str, str]], trusted: dict[str, str], scheme: str
) -> None:
    cwd, variables = deployed
    token = _token(cwd, variables)
    with running("serve", "--port", "0", cwd=cwd, **variables, **trusted) as server:
        url = server.wait_for(SERVES)[1] + "/api/v1/s3-media"
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-Proto": "https"}
        issued = httpx.post(f"{url}/upload", json={"content_type": "video/mp4"}, headers=headers)
        assert issued.json()["complete_url"].startswith(f"{scheme}://")


def test_a_worker_completes_an_unannounced_upload_and_ends_on_sigterm(
    deployed: tuple[Path, dict[str, str]],
) -> None:
    cwd, variables = deployed
    hasty = variables | {"BROKER_GRACE_SECONDS": "0", "BROKER_SWEEP_SECONDS": "0.2"}
    bearer = {"Authorization": f"Bearer {_token(cwd, variables, '--sub', 'silent')}"}
    with running("serve", "--port", "0", cwd=cwd, **hasty) as server, running("worker", cwd=cwd, **hasty) as worker:
        url = server.wait_for(SERVES)[1] + "/api/v1/s3-media"
        worker.wait_for("working")
        form = httpx.post(f"{url}/upload", json={"content_type": "video/mp4"}, headers=bearer).json()
        with CLIP.open("rb") as file:
            sent = httpx.post(form["upload"]["url"], data=form["upload"]["fields"], files={"file": file})
        assert sent.status_code == 201
        until(lambda: httpx.get(f"{url}/{form['media_id']}", headers=bearer).status_code == 200)
        assert worker.end(signal.SIGTERM) == 0
        assert "Traceback" not in worker.said


def test_a_server_may_run_the_embedded_s3(tmp_path: Path) -> None:
    variables = {"SECRET_KEY": SECRET, "USE_CLOUD_STORAGE": "false"}
    assert done("migrate", cwd=tmp_path).returncode == 0
    (tmp_path / ".env").write_text("BROKER_PORT=0\n")
    with running("serve", "--embedded-s3", cwd=tmp_path, **variables) as server:
        url = server.wait_for(SERVES)[1] + "/api/v1/s3-media"
        assert urlsplit(url).port != 8000
        variables |= {"BROKER_URL": url, "BROKER_TOKEN": _token(tmp_path, variables)}
        uploaded = done("upload", str(CLIP), cwd=tmp_path, **variables)
        assert uploaded.returncode == 0, uploaded.stderr
        assert server.end(signal.SIGTERM) == 0
