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
    _post(issued["upload"]["url"], issued["upload"]["fields"], film.read_bytes(), tmp_path / "body")
    media = httpx.post(f"{stack.prefix}/{issued['media_id']}/complete", headers=headers).json()
    assert media["size"] == film.stat().st_size
    assert httpx.get(media["signed_url"]).content == film.read_bytes()

    again = httpx.post(f"{stack.prefix}/upload", json=request, headers=headers)
    assert (again.status_code, again.json()["upload"]) == (200, None)


def test_parts_written_as_documented_arrive_in_waves(stack: Stack, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {token('phone')}"}
    video = uuid.uuid4().bytes * (40 * 1024**2 // 16)
    request = {"content_type": "video/mp4", "size": len(video), "resumable": True}
    issued = httpx.post(f"{stack.prefix}/upload", json=request, headers=headers).json()
    at: int | None = 1
    while at is not None:
        wave = httpx.get(issued["parts_url"], params={"from": at, "limit": 2}, headers=headers).json()["parts"]
        for form in wave["forms"]:
            first = (form["number"] - 1) * wave["part_size"]
            part = video[first : first + form["size"]]
            _post(wave["url"], wave["fields"] | form["fields"], part, tmp_path / "body")
        at = wave["next_from"]
    media = httpx.post(f"{stack.prefix}/{issued['media_id']}/complete", headers=headers, timeout=30).json()
    assert httpx.get(media["signed_url"]).content == video


def _post(url: str, fields: dict[str, str], content: bytes, body: Path) -> None:
    """Write a form's body to a file as the guide says, and post it."""
    field, file, tail = (block.replace("\n", "\r\n") for block in recipe("The exact bytes", "multipart"))
    boundary = str(uuid.uuid4())
    head = "".join(field.format(boundary=boundary, name=name, value=value) for name, value in fields.items())
    head += file.format(boundary=boundary)
    body.write_bytes(head.encode() + content + tail.format(boundary=boundary).encode())
    with body.open("rb") as opened:
        posted = httpx.post(
            url,
            content=opened,
            headers={
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Content-Length": str(body.stat().st_size),
            },
        )
    assert posted.status_code == 201, posted.text
