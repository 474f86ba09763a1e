"""The exact bytes of a phone's upload, built from `infra/clients.md` and posted."""

import uuid
from pathlib import Path

import httpx

from tests.browser.recipes import recipe
from tests.support.stack import Stack, token


def test_a_body_written_as_documented_is_accepted_and_completed(stack: Stack, film: Path, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {token('phone')}", "Idempotency-Key": uuid.uuid4().hex}
    request = {"content_type": "video/mp4", "size": film.stat().st_size}
    issued = httpx.post(f"{stack.prefix}/upload", json=request, headers=headers).json()
    upload = issued["upload"]

    field, file, tail = (block.replace("\n", "\r\n") for block in recipe("The exact bytes", "multipart"))
    boundary = str(uuid.uuid4())
    head = "".join(field.format(boundary=boundary, name=name, value=value) for name, value in upload["fields"].items())
    head += file.format(boundary=boundary)
    body = tmp_path / "body"
    body.write_bytes(head.encode() + film.read_bytes() + tail.format(boundary=boundary).encode())

    with body.open("rb") as content:
        posted = httpx.post(
            upload["url"],
            content=content,
            headers={
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Content-Length": str(body.stat().st_size),
            },
        )
    assert posted.status_code == 201, posted.text
    media = httpx.post(f"{stack.prefix}/{issued['media_id']}/complete", headers=headers).json()
    assert media["size"] == film.stat().st_size
    assert httpx.get(media["signed_url"]).content == film.read_bytes()

    again = httpx.post(f"{stack.prefix}/upload", json=request, headers=headers)
    assert (again.status_code, again.json()["upload"]) == (200, None)
