"""README and the guides are true: their tables are drawn from the code, and their commands and examples run."""

import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from broker.app import PREFIX, create_app
from broker.dev.s3 import EmbeddedS3
from broker.domain.video_types import VIDEO_TYPES
from broker.server.connections import BoundedConnection
from broker.settings import Settings, environment_name, load_settings
from broker.store import migrate
from tests.readme.blocks import commands
from tests.readme.drawing import GUIDES, HELPER, PARTS, Part, helper_with_types
from tests.support.live import live
from tests.support.npm import program
from tests.support.processes import CLIP, ROOT, environment, running
from tests.support.serving import settings_of

README = (ROOT / "README.md").read_text("utf-8")
SETTINGS, ERRORS = (part.guide.read_text("utf-8") for part in PARTS)
WALKTHROUGH = ROOT / "tests" / "walkthrough.sh"


def _blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_drawn_part_is_up_to_date(part: Part) -> None:
    text = part.guide.read_text("utf-8")
    assert part.redrawn(text) == text, "run `make readme`"


def test_the_types_of_the_browser_helper_are_up_to_date() -> None:
    helper = HELPER.read_text("utf-8")
    assert helper_with_types(helper) == helper, "run `make readme`"
    assert VIDEO_TYPES[0].other_names[0] in helper


def test_every_setting_is_present() -> None:
    assert [name for name in Settings.model_fields if f"| `{environment_name(name)}` |" not in SETTINGS] == []


def test_a_part_without_a_place_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"settings\.md has 0 places for settings, not one"):
        PARTS[0].redrawn(SETTINGS.replace("<!-- /settings -->", ""))


def test_readme_is_read_in_a_minute() -> None:
    assert len(README.splitlines()) <= 200


def test_readme_links_every_guide() -> None:
    guides = {path.relative_to(ROOT).as_posix() for path in GUIDES.glob("*.md")}
    assert guides - set(re.findall(r"\]\(([^)#]+)", README)) == set()


def test_it_describes_the_answers_outside_the_routes(tmp_path: Path) -> None:
    section = " ".join(ERRORS.partition("<!--")[0].split())
    with live(create_app(settings_of(tmp_path)), http=BoundedConnection) as url, httpx.Client(base_url=url) as client:
        for status, answer in ((404, client.get("/nowhere")), (405, client.put("/healthz"))):
            assert f"{status} for" in section
            assert "`about:blank`" in section
            assert (answer.status_code, answer.json()["type"]) == (status, "about:blank")
        with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=5) as connection:
            connection.sendall(b"no HTTP\r\n\r\n")
            response = connection.recv(65536)
    assert "400 in plain text to a request that is not valid HTTP" in section
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: text/plain" in response


def test_it_names_the_host_that_the_docs_page_loads_from(tmp_path: Path) -> None:
    with live(create_app(settings_of(tmp_path))) as url:
        page, document = httpx.get(f"{url}/docs").text, httpx.get(f"{url}/openapi.json").text
    hosts = set(re.findall(r"https://(cdn[\w.]+)/", page))
    assert hosts
    guide = (GUIDES / "interface.md").read_text("utf-8")
    assert [host for host in hosts if f"`{host}`" not in guide or host in document] == []


def test_the_walk_through_is_the_script_word_for_word() -> None:
    script = WALKTHROUGH.read_text("utf-8").partition("set -euo pipefail\n\n")[2]
    assert script == commands("infra/guides/walkthrough.md", "walkthrough")


@pytest.fixture(params=["clip", "film"])
def video(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    """Place a video at the walk-through's path: the repository's clip, or a film of some megabytes."""
    target = tmp_path / "tests" / "data" / "clip.mp4"
    target.parent.mkdir(parents=True)
    if request.param == "clip":
        target.write_bytes(CLIP.read_bytes())
    else:
        noise = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=4,noise=alls=60:allf=t"]
        encoding = ["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "12M", "-pix_fmt", "yuv420p"]
        subprocess.run([program("ffmpeg"), "-loglevel", "error", "-y", *noise, *encoding, target], check=True)
        assert target.stat().st_size > 2_000_000
    return target.read_bytes()


def test_the_walk_through_runs_beside_broker_dev(tmp_path: Path, video: bytes) -> None:
    with running("dev", "--port", "0", cwd=tmp_path) as dev:
        dev.wait_for("Try in another terminal")
        command = [program("bash"), str(WALKTHROUGH)]
        script = subprocess.run(
            command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False
        )
        assert dev.end() == 0
    assert (script.returncode, script.stderr) == (0, "")
    issued, *stored, posted, ready, played, same, deleted, absent, gone = script.stdout.splitlines()
    assert '"status":"pending"' in issued
    assert f'"max_size":{len(video)}' in issued
    assert re.search(r"<PostResponse.*<Key>staging/", " ".join(stored))
    assert posted == "201"
    assert '"status":"ready"' in ready
    assert f'"size":{len(video)}' in ready
    assert (played, same) == ("206", "the same bytes")
    assert '"success":true' in deleted
    assert '"status": 404' in absent
    assert gone == "404"


@pytest.fixture
def surroundings(
    embedded_s3: EmbeddedS3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Set an operator's environment, with the embedded S3 and a migrated database."""
    variables = {
        "SECRET_KEY": "a secret of at least thirty-two bytes",
        "CLOUD_STORAGE_PROVIDER": "s3",
        "AWS_S3_BUCKET_NAME": bucket,
        "AWS_S3_REGION": embedded_s3.region,
        "AWS_ACCESS_KEY_ID": embedded_s3.access_key,
        "AWS_SECRET_ACCESS_KEY": embedded_s3.secret_key,
        "BROKER_S3_ENDPOINT_URL": embedded_s3.endpoint_url,
        "BROKER_S3_PATH_STYLE": "true",
        "BROKER_DATABASE_URL": f"sqlite:///{tmp_path}/broker.db",
    }
    for name in [name for name in os.environ if name.startswith(("AWS_", "BROKER_"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    migrate(variables["BROKER_DATABASE_URL"])
    return variables


@pytest.mark.parametrize("guide", ["README.md", "infra/guides/mounting.md"])
def test_the_lines_mount_the_broker_in_another_application(surroundings: dict[str, str], guide: str) -> None:
    text = (ROOT / guide).read_text("utf-8")
    example = _blocks("python", text.partition("<!-- mounted -->")[2])[0]
    names: dict[str, object] = {}
    exec(compile(example, guide, "exec"), names)  # noqa: S102
    app = names["app"]
    assert isinstance(app, FastAPI)
    token = jwt.encode({"sub": "anna", "exp": 4102444800, "scope": "media:upload"}, surroundings["SECRET_KEY"], "HS256")
    with TestClient(app, base_url="https://shop.example") as shop:
        assert shop.get("/").status_code == (200 if "async def home" in example else 404)
        issued = shop.post(
            "/videos/upload", json={"content_type": "video/mp4"}, headers={"Authorization": f"Bearer {token}"}
        )
        assert issued.status_code == 201
        assert issued.json()["complete_url"] == f"https://shop.example/videos/{issued.json()['media_id']}/complete"
        assert shop.get("/videos/health/s3").json()["status"] == "healthy"


PROVIDERS = (
    (GUIDES / "tokens.md").read_text("utf-8").partition("<!-- providers -->")[2].partition("<!-- /providers -->")[0]
)
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PROVIDERS.strip().splitlines()]


@pytest.mark.parametrize("row", ROWS[2:], ids=lambda row: row[0])
@pytest.mark.usefixtures("surroundings")
def test_the_settings_of_an_identity_provider_are_valid(row: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    named = {
        column.strip("`"): value.strip("`")
        for column, value in zip(ROWS[0][1:4], row[1:4], strict=True)
        if value.startswith("`")
    }
    further = dict(setting.split("=", 1) for setting in re.findall(r"`(BROKER_[A-Z_]+=[^`]+)`", row[4]))
    for name, value in (named | further).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.jwks_url == named["BROKER_JWKS_URL"]
    assert settings.jwt_issuer == (named["BROKER_JWT_ISSUER"],)


@pytest.mark.usefixtures("surroundings")
def test_the_backend_of_the_guide_mints_a_token_that_the_broker_accepts() -> None:
    (example,) = _blocks("python", (GUIDES / "tokens.md").read_text("utf-8"))
    names: dict[str, Any] = {}
    exec(compile(example, "tokens.md", "exec"), names)  # noqa: S102
    headers = {"Authorization": f"Bearer {names['token_for']('anna')}"}
    with TestClient(create_app(load_settings())) as client:
        assert client.post(f"{PREFIX}/upload", json={"content_type": "video/mp4"}, headers=headers).status_code == 201
