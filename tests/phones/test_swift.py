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
GUIDE = ROOT / "infra" / "guides" / "phones.md"
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
    address = filled(query, parts_url=issued["parts_url"], first=1, ahead=8)
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


def body_of(function: str) -> str:
    """Return the source of a function, from its name to the brace that closes it."""
    found = re.search(rf"\n    [^\n]*func {function}\(.*?\n    }}\n", SOURCE, re.DOTALL)
    assert found is not None
    return found[0]


def test_its_callbacks_run_on_the_main_thread() -> None:
    calls = re.findall(r"^.*\b(?:onEnd|onProgress)\(.*$", SOURCE, re.MULTILINE)
    assert [line.strip() for line in calls] == [
        "onEnd(id, result)",
        "await MainActor.run { onProgress(id, arrived, count) }",
    ]
    assert "@MainActor private func finish" in body_of("finish")


def test_an_upload_waits_for_one_retry_at_a_time() -> None:
    assert "@MainActor private var waiting: Set<String>" in SOURCE
    step = body_of("enqueue")
    assert "@MainActor" in step
    guard = step.index("guard waiting.insert(id).inserted else { return }")
    assert guard < step.index("Task.sleep") < step.index("waiting.remove(id)") < step.rindex("enqueue(id)")


def test_a_video_without_a_record_is_removed() -> None:
    add = body_of("add")
    assert add.index("} catch {") < add.index("removeItem(at: path(id))") < add.index("throw error")
    resume = body_of("resume")
    assert resume.index("where UUID(uuidString: id) != nil") < resume.index('"upload.json"')
    assert resume.index("} else {") < resume.index("removeItem(at: path(id))")


def test_a_part_that_is_not_sent_leaves_no_file() -> None:
    send = body_of("send")
    assert send.index("defer { if !isSending") < send.index("createFile(") < send.index("isSending = true")


def test_the_system_holds_no_more_parts_than_the_guide_says() -> None:
    ahead = re.search(r"private let ahead = (\d+)", SOURCE)
    assert ahead is not None
    assert f"up to {ahead[1]} of them lie on the disk" in GUIDE.read_text("utf-8")
    assert "prefix(ahead - sending.count)" in body_of("advance")


def test_a_cancellation_deletes_the_media_before_it_forgets_the_upload() -> None:
    cancel = body_of("cancel")
    steps = (
        "await last?.value",
        "stopSending(id)",
        "decode(Upload.self",
        '"DELETE"',
        "removeItem(at: path(id))",
        "last = ",
    )
    places = [cancel.rindex(step) for step in steps]
    assert places == sorted(places)


def test_a_refused_upload_sends_no_further_part() -> None:
    step = body_of("enqueue")
    assert step.index("catch let refused") < step.index("await stopSending(id)") < step.index(".failure(refused)")


def test_a_deletion_may_be_repeated(served: PartsBroker) -> None:
    issued = _issued(served, 12)
    address = filled(literals("issued.media_id")[0], prefix=served.prefix, media_id=issued["media_id"])
    assert [httpx.delete(address, headers=_bearer(served)).status_code for _ in range(2)] == [200, 404]
    assert '(status == 404 && method == "DELETE")' in body_of("call")


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
