"""Clients that are generated from the OpenAPI document: their names, their types, and that they upload a file."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.app import PREFIX, create_app
from broker.dev.s3 import EmbeddedS3
from tests.support.live import live
from tests.support.npm import packages, program
from tests.support.processes import CLIP
from tests.support.pypi import environment
from tests.support.serving import on_s3, settings_of, token

PYTHON_CALLER = """
import sys
from pathlib import Path

import httpx
from s3_media_broker_client import AuthenticatedClient
from s3_media_broker_client.api.media import complete_upload, delete_media, get_media
from s3_media_broker_client.api.media import issue_upload, issue_uploads, list_media
from s3_media_broker_client.models import Deleted, Issued, IssuedUploads, MediaList, Playback, ProblemDocument
from s3_media_broker_client.models import RefusedUpload, State, UploadBody, UploadsBody

address, token, path = sys.argv[1:]
video = Path(path).read_bytes()
body = UploadBody(content_type="video/mp4", size=len(video))
with AuthenticatedClient(base_url=address, token=token) as client:
    issued = issue_upload.sync(client=client, body=body, idempotency_key="one")
    assert isinstance(issued, Issued), issued
    assert issued.status is State.PENDING
    refused = get_media.sync(client=client, media_id=issued.media_id)
    assert isinstance(refused, ProblemDocument)
    assert refused.type_ == "urn:s3-media:problem:not-ready"

    form = issued.upload
    assert form is not None
    httpx.post(form.url, data=form.fields.to_dict(), files={"file": video}).raise_for_status()
    completed = complete_upload.sync(client=client, media_id=issued.media_id)
    assert isinstance(completed, Playback), completed
    link = get_media.sync(client=client, media_id=issued.media_id, expires_in=60)
    assert isinstance(link, Playback), link
    assert link.signed_url is not None
    assert httpx.get(link.signed_url).content == video

    listed = list_media.sync(client=client, status=State.READY, limit=5)
    assert isinstance(listed, MediaList)
    assert [media.media_id for media in listed.media] == [issued.media_id]
    both = issue_uploads.sync(client=client, body=UploadsBody(uploads=[body, UploadBody(content_type="image/png")]))
    assert isinstance(both, IssuedUploads)
    accepted, rejected = both.uploads
    assert isinstance(accepted, Issued)
    assert isinstance(rejected, RefusedUpload)
    assert rejected.type_ == "urn:s3-media:problem:type-not-allowed"
    deleted = delete_media.sync(client=client, media_id=issued.media_id)
    assert isinstance(deleted, Deleted)
    assert deleted.message.startswith("The media is gone")
"""
TYPESCRIPT_CALLER = """
import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { components, operations, paths } from "./schema";

type Body = operations["issue_upload"]["requestBody"]["content"]["application/json"];
type Listed = operations["list_media"]["responses"][200]["content"]["application/json"];
type Problem = operations["complete_upload"]["responses"][422]["content"]["application/problem+json"];

// @ts-expect-error: a size is a number
export const wrong: Body = { content_type: "video/mp4", size: "7" };
export const newest = (listed: Listed): components["schemas"]["Media"] | undefined => listed.media[0];
export const kind = (problem: Problem): string => problem.type;

const [baseUrl = "", token = "", path = ""] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
const video = await readFile(path);
const body: Body = { content_type: "video/mp4", size: video.length, metadata: { album: "7" } };
const { data: issued, error } = await client.POST("PREFIX/upload", { body });
if (!issued?.upload) throw new Error(error?.detail ?? "no form");

const form = new FormData();
for (const [name, value] of Object.entries(issued.upload.fields)) form.append(name, value);
form.append("file", new Blob([video]));
const stored = await fetch(issued.upload.url, { method: issued.upload.method, body: form });
if (!stored.ok) throw new Error(await stored.text());

const params = { path: { media_id: issued.media_id } };
const completed = await client.POST("PREFIX/{media_id}/complete", { params });
if (!completed.data) throw new Error(completed.error.detail);
const { data: link } = await client.GET("PREFIX/{media_id}", { params: { ...params, query: { expires_in: 60 } } });
const played = Buffer.from(await (await fetch(link?.signed_url ?? "")).arrayBuffer());
if (!played.equals(video)) throw new Error("the link plays something else");
const { data: listed } = await client.GET("PREFIX/", { params: { query: { status: "ready" } } });
if (listed && newest(listed)?.media_id !== issued.media_id) throw new Error("the media is not listed");
""".replace("PREFIX", PREFIX)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """Write the OpenAPI document to a file."""
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(create_app(settings_of(tmp_path)).openapi()))
    return file


@pytest.fixture
def address(tmp_path: Path, embedded_s3: EmbeddedS3, bucket: str) -> Iterator[str]:
    """Serve a broker on the embedded S3."""
    with live(create_app(settings_of(tmp_path, **on_s3(embedded_s3, bucket)))) as served:
        yield served


def run(program: str | Path, *arguments: object, folder: Path) -> str:
    """Run a program with its siblings in PATH, and return its output."""
    path = os.pathsep.join([str(Path(program).parent), os.environ["PATH"]])
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_generated_python_client_reads_well_and_uploads(document: Path, address: str, tmp_path: Path) -> None:
    programs = environment("openapi-python-client==0.29.1", "ruff==0.14.0", "mypy==1.19.1")
    written = run(programs / "openapi-python-client", "generate", "--path", document, folder=tmp_path)
    assert "Warning" not in written
    (tmp_path / "caller.py").write_text(PYTHON_CALLER)
    (package,) = tmp_path.glob("*/s3_media_broker_client")
    (tmp_path / package.name).symlink_to(package)
    run(programs / "mypy", "--strict", "caller.py", folder=tmp_path)
    run(programs / "python", "caller.py", address, token(), CLIP, folder=tmp_path)


def test_generated_typescript_types_read_well_and_upload(document: Path, address: str, tmp_path: Path) -> None:
    installed = packages("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3", "@types/node@22.19.1")
    (tmp_path / "node_modules").symlink_to(installed / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    programs = installed / "node_modules" / ".bin"
    run(programs / "openapi-typescript", document, "--output", "schema.d.ts", folder=tmp_path)
    (tmp_path / "caller.ts").write_text(TYPESCRIPT_CALLER)
    options = ["--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--types", "node"]
    modules = ["--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"]
    run(programs / "tsc", *options, *modules, "caller.ts", folder=tmp_path)
    run(program("node"), "caller.js", address, token(), CLIP, folder=tmp_path)
