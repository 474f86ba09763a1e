"""The kit for iOS, whose requests and bytes are read from its source and replayed against the broker.

No Swift compiler is installed by `.ci/install`, so the file is not compiled here.
"""

import re
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.parts_broker import PartsBroker
from tests.support.processes import ROOT

SOURCE = (ROOT / "infra" / "phones" / "BrokerUploads.swift").read_text("utf-8")
STRING = re.compile(r'"((?:[^"\\]|\\\(|\\.)*)"')
JSON_TYPES = {"String": str, "URL": str, "Int": int, "Int64": int, "[Int]": list, "[Form]": list}


def literals(containing: str) -> list[str]:
    """Return the string literals of the source that contain a text, with their escapes undone."""
    found = [literal for literal in STRING.findall(SOURCE) if containing in literal]
    return [text.replace("\\r", "\r").replace("\\n", "\n").replace('\\"', '"') for text in found]


def filled(template: str, **values: object) -> str:
    """Replace the interpolations of a literal, such as `\\(boundary)`, by values; the last name of a path counts."""

    def value(match: "re.Match[str]") -> str:
        return str(values[match[1].rpartition(".")[2]])

    return re.sub(r"\\\(([^()]+)\)", value, template)


def fields_of(struct: str) -> dict[str, str]:
    """Return the properties of a struct of the source, by name, with their types."""
    body = re.search(rf"struct {struct}: \w+ {{(.*?)}}", SOURCE, re.DOTALL)
    assert body is not None
    declared = re.findall(r"let ([\w, ]+): ([^\n/}]+)", body[1])
    return {name: kind.strip() for names, kind in declared for name in names.split(", ")}


@pytest.mark.parametrize("struct", ["Issued", "Page", "Parts", "Form"])
def test_every_property_is_in_the_brokers_answer(served: PartsBroker, struct: str) -> None:
    issued = _issued(served, 12)
    page = httpx.get(issued["parts_url"], headers=_bearer(served)).json()
    answers: dict[str, dict[str, Any]] = {
        "Issued": issued,
        "Page": page,
        "Parts": page["parts"],
        "Form": page["parts"]["forms"][0],
    }
    declared = fields_of(struct)
    assert declared
    for name, kind in declared.items():
        optional, answer = kind.endswith("?"), answers[struct]
        assert name in answer
        assert answer[name] is not None or optional
        assert answer[name] is None or isinstance(answer[name], JSON_TYPES.get(kind.removesuffix("?"), dict))


def test_its_bodies_make_a_ready_media(served: PartsBroker, video: Path) -> None:
    field, file, tail = literals("--\\(boundary)")
    (content_type,) = literals("multipart/form-data; ")
    (query,) = literals("&limit=")
    issued = _issued(served, video.stat().st_size)
    address = filled(query, parts_url=issued["parts_url"], first=1, forms=8)
    parts = httpx.get(address, headers=_bearer(served)).raise_for_status().json()["parts"]
    assert [form["number"] for form in parts["forms"]] == [1, 2, 3, 4, 5, 6]
    content = video.read_bytes()
    for form in parts["forms"]:
        boundary = str(uuid.uuid4()).upper()
        fields = parts["fields"] | form["fields"]
        head = "".join(filled(field, boundary=boundary, name=name, value=value) for name, value in fields.items())
        start = (form["number"] - 1) * parts["part_size"]
        body = (
            (head + filled(file, boundary=boundary)).encode()
            + content[start : start + form["size"]]
            + filled(tail, boundary=boundary).encode()
        )
        posted = httpx.post(
            parts["url"], content=body, headers={"Content-Type": filled(content_type, boundary=boundary)}
        )
        assert posted.status_code == 201, posted.text
    media = httpx.post(issued["complete_url"], headers=_bearer(served), timeout=60).raise_for_status().json()
    assert httpx.get(media["signed_url"]).content == content


def test_it_completes_by_the_address_of_the_answer() -> None:
    assert re.search(r'call\("POST", issued\.complete_url\)', SOURCE)
    assert re.search(r'setValue\("Bearer \\\(bearer\)", forHTTPHeaderField: "Authorization"\)', SOURCE)
    # S3 refuses a form that brings another kind of authorization.
    assert SOURCE.count('"Authorization"') == 1


def _issued(served: PartsBroker, size: int) -> dict[str, Any]:
    """Issue an upload by the source's own address and body."""
    (address,) = literals("/upload")[:1]
    body = re.search(r"withJSONObject: \[(.+?)\]\)", SOURCE)
    assert body is not None
    values: dict[str, object] = {"upload.type": "video/mp4", "upload.size": size, "true": True}
    asked = {name: values[value] for name, value in re.findall(r'"(\w+)": ([\w.]+)', body[1])}
    headers = _bearer(served) | {"Idempotency-Key": str(uuid.uuid4()).upper()}
    answer = httpx.post(filled(address, prefix=served.prefix), json=asked, headers=headers)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def _bearer(served: PartsBroker) -> dict[str, str]:
    return {"Authorization": f"Bearer {served.token}"}
