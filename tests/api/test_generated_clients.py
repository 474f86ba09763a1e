"""Clients that are generated from the OpenAPI document: their names, their types, and that they work."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from broker.app import PREFIX, create_app
from tests.support.live import live
from tests.support.npm import packages
from tests.support.pypi import environment
from tests.support.serving import settings_of, token

PYTHON_CALLER = """
import sys
from s3_media_broker_client import AuthenticatedClient
from s3_media_broker_client.api.media import delete_media, get_media, issue_upload, list_media
from s3_media_broker_client.models import Issued, MediaList, ProblemDocument, State, UploadBody

address, token = sys.argv[1:]
with AuthenticatedClient(base_url=address, token=token) as client:
    issued = issue_upload.sync(client=client, body=UploadBody(content_type="video/mp4", size=7), idempotency_key="one")
    assert isinstance(issued, Issued), issued
    assert issued.upload.fields["Content-Type"] == "video/mp4"
    assert issued.status is State.PENDING
    listed = list_media.sync(client=client, status=State.PENDING, limit=5)
    assert isinstance(listed, MediaList)
    assert [media.media_id for media in listed.media] == [issued.media_id]
    refused = get_media.sync(client=client, media_id=issued.media_id)
    assert isinstance(refused, ProblemDocument)
    assert refused.type_ == "urn:s3-media:problem:not-ready"
    assert delete_media.sync(client=client, media_id=issued.media_id).message.startswith("The media is gone")
    wrong = issue_upload.sync(client=client, body=UploadBody(content_type="image/png"))
    assert wrong.type_ == "urn:s3-media:problem:type-not-allowed"
"""
TYPESCRIPT_CALLER = """
import type { components, operations, paths } from "./schema";

type Body = operations["issue_upload"]["requestBody"]["content"]["application/json"];
type Issued = operations["issue_upload"]["responses"][201]["content"]["application/json"];
type Listed = operations["list_media"]["responses"][200]["content"]["application/json"];
type Problem = operations["complete_upload"]["responses"][422]["content"]["application/problem+json"];

export const body: Body = { content_type: "video/mp4", size: 7, metadata: { album: "7" } };
// @ts-expect-error: a size is a number
export const wrong: Body = { content_type: "video/mp4", size: "7" };
export const fields = (issued: Issued): Record<string, string> => issued.upload?.fields ?? {};
export const newest = (listed: Listed): components["schemas"]["Media"] | undefined => listed.media[0];
export const kind = (problem: Problem): string => problem.type;
export const list: paths["PREFIX/"]["get"] = {} as operations["list_media"];
""".replace("PREFIX", PREFIX)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(create_app(settings_of(tmp_path)).openapi()))
    return file


def run(program: Path, *arguments: object, folder: Path) -> str:
    """Run a program with its siblings in PATH, and return its output."""
    path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_generated_python_client_reads_well_and_works(document: Path, tmp_path: Path) -> None:
    programs = environment("openapi-python-client==0.29.1", "ruff==0.14.0")
    written = run(programs / "openapi-python-client", "generate", "--path", document, folder=tmp_path)
    assert "Warning" not in written
    (tmp_path / "caller.py").write_text(PYTHON_CALLER)
    (package,) = tmp_path.glob("*/s3_media_broker_client")
    (tmp_path / package.name).symlink_to(package)
    with live(create_app(settings_of(tmp_path))) as address:
        run(programs / "python", "caller.py", address, token(), folder=tmp_path)


def test_generated_typescript_types_read_well_and_compile(document: Path, tmp_path: Path) -> None:
    programs = packages("openapi-typescript@7.13.0", "typescript@5.9.3") / "node_modules" / ".bin"
    run(programs / "openapi-typescript", document, "--output", "schema.d.ts", folder=tmp_path)
    (tmp_path / "caller.ts").write_text(TYPESCRIPT_CALLER)
    options = ["--strict", "--noEmit", "--exactOptionalPropertyTypes", "--module", "esnext"]
    run(programs / "tsc", *options, "--moduleResolution", "bundler", "caller.ts", folder=tmp_path)
