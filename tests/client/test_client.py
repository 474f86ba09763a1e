"""The Python client against the broker and the embedded S3: uploads whole and in parts, links, lists, problems."""

import asyncio
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.client import (
    AsyncClient,
    BrokerProblem,
    Client,
    ClientError,
    FileChanged,
    FileRefused,
    Issued,
    Media,
    Unreachable,
)
from broker.dev.s3 import Fault
from tests.support.parts_broker import PART, PartsBroker
from tests.support.processes import CLIP, ROOT

GUIDE = (ROOT / "infra" / "guides" / "python.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
OVER = PART
"""Larger files go in parts here."""


@pytest.fixture
def broker(served: PartsBroker) -> Any:
    """Return a client that is closed afterwards."""
    with Client(served.prefix, served.token) as client:
        yield client


def played(media: Media) -> bytes:
    """Return the bytes behind a media's link."""
    assert media.signed_url is not None
    return httpx.get(media.signed_url).raise_for_status().content


def test_a_small_file_goes_in_one_form(broker: Client) -> None:
    media = broker.upload(CLIP, metadata={"album": "7"})
    assert (media.status, media.content_type, media.filename) == ("ready", "video/mp4", "clip.mp4")
    assert dict(media.metadata) == {"album": "7"}
    assert played(media) == CLIP.read_bytes()


def test_a_large_file_goes_in_parts_with_progress(broker: Client, video: Path) -> None:
    seen: list[tuple[int, int]] = []
    media = broker.upload(video, resumable_over=OVER, on_progress=lambda *progress: seen.append(progress))
    assert played(media) == video.read_bytes()
    size = video.stat().st_size
    assert seen[-1] == (size, size)
    assert len(seen) > 6


def test_a_part_that_s3_cannot_take_now_is_sent_again_alone(broker: Client, served: PartsBroker, video: Path) -> None:
    served.s3.order_fault(Fault("PostObject", code="SlowDown", status=503))
    served.s3.order_fault(Fault("PostObject", reset=True))
    seen: list[int] = []
    media = broker.upload(video, resumable_over=OVER, on_progress=lambda loaded, _: seen.append(loaded))
    assert played(media) == video.read_bytes()
    assert seen[-1] == video.stat().st_size


def test_a_file_that_s3_shows_late_is_not_sent_again(served: PartsBroker) -> None:
    pauses: list[float] = []

    async def rest(seconds: float) -> None:
        pauses.append(seconds)

    served.s3.order_fault(Fault("HeadObject", code="NoSuchKey", status=404, count=4))
    seen: list[int] = []
    with Client(served.prefix, served.token, rest=rest) as broker:
        media = broker.upload(CLIP, on_progress=lambda loaded, _: seen.append(loaded))
    assert played(media) == CLIP.read_bytes()
    assert seen == sorted(set(seen))
    assert pauses == [2.0] * 4


def test_a_repeated_upload_sends_only_what_is_missing(broker: Client, served: PartsBroker, video: Path) -> None:
    served.s3.order_fault(Fault("PostObject", code="InvalidRequest", status=400))
    with pytest.raises(FileRefused, match="InvalidRequest"):
        broker.upload(video, resumable_over=OVER, idempotency_key="one film")
    served.s3.clear_faults()
    arrived = len(served.staged())
    seen: list[int] = []
    media = broker.upload(
        video, resumable_over=OVER, idempotency_key="one film", on_progress=lambda loaded, _: seen.append(loaded)
    )
    assert seen[0] >= min(arrived, 1) * 1234
    assert played(media) == video.read_bytes()
    again = broker.upload(video, resumable_over=OVER, idempotency_key="one film")
    assert again.media_id == media.media_id


def test_a_stopped_upload_is_resumed_by_its_id_and_token(served: PartsBroker, video: Path) -> None:
    size = video.stat().st_size
    arrived: list[int] = []

    def stop(loaded: int, _: int) -> None:
        if loaded > 2 * PART and served.staged():
            raise InterruptedError

    with Client(served.prefix, served.token, connections=1) as broker:
        issued = broker.issue("video/mp4", size=size, resumable=True, owner="bert", allow_link=True)
        with pytest.raises(InterruptedError):
            broker.resume(issued.media_id, video, upload_token=issued.upload_token, on_progress=stop)
        before = len(served.staged())
        with pytest.raises(FileChanged, match=f"The file has {CLIP.stat().st_size} bytes; the upload has 6 parts of"):
            broker.resume(issued.media_id, CLIP, upload_token=issued.upload_token)
    with Client(served.prefix, "of another user") as other:
        media = other.resume(
            issued.media_id,
            video,
            upload_token=issued.upload_token,
            on_progress=lambda loaded, _: arrived.append(loaded),
        )
    assert before
    assert arrived[0] == before * PART
    assert played(media) == video.read_bytes()


def test_an_upload_that_is_not_resumable_is_refused(broker: Client, served: PartsBroker) -> None:
    issued = broker.issue("video/mp4", size=CLIP.stat().st_size)

    async def resume() -> None:
        async with AsyncClient(served.prefix, served.token) as other:
            await other.resume(issued, CLIP)

    for refused in (lambda: broker.resume(issued, CLIP), lambda: asyncio.run(resume())):
        with pytest.raises(BrokerProblem) as problem:
            refused()
        assert (problem.value.status, problem.value.slug) == (409, "not-resumable")


async def test_a_cancelled_upload_stops_and_can_go_on(served: PartsBroker, video: Path) -> None:
    began = asyncio.Event()
    async with AsyncClient(served.prefix, served.token) as broker:
        options: dict[str, Any] = {"resumable_over": OVER, "idempotency_key": "cancelled"}
        running = asyncio.create_task(broker.upload(video, on_progress=lambda *_: began.set(), **options))
        await began.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert played(await broker.upload(video, **options)) == video.read_bytes()


def test_forms_that_expired_meanwhile_are_renewed(served: PartsBroker, video: Path) -> None:
    async def pass_a_day(_: float) -> None:
        served.s3.set_clock(0)

    for file, over in ((video, OVER), (CLIP, OVER)):
        served.s3.set_clock(86_400)
        try:
            with Client(served.prefix, served.token, rest=pass_a_day) as broker:
                assert played(broker.upload(file, resumable_over=over)) == file.read_bytes()
        finally:
            served.s3.set_clock(0)


def test_many_uploads_are_issued_in_one_request(broker: Client) -> None:
    requests: list[Any] = [{"content_type": "video/mp4", "size": 7}, {"content_type": "text/plain"}]
    first, refused = broker.issue_many(requests, idempotency_key="an album")
    assert isinstance(first, Issued)
    assert isinstance(refused, BrokerProblem)
    assert (first.status, refused.status, refused.slug) == ("pending", 422, "type-not-allowed")
    again, _ = broker.issue_many(requests, idempotency_key="an album")
    assert isinstance(again, Issued)
    assert again.media_id == first.media_id


def test_an_upload_on_behalf_belongs_to_the_user(broker: Client, served: PartsBroker) -> None:
    media = broker.upload(CLIP, owner="bert", allow_link=True)
    assert played(media) == CLIP.read_bytes()
    with pytest.raises(BrokerProblem) as problem:
        broker.link(media.media_id)
    assert (problem.value.status, problem.value.slug) == (404, "media-not-found")
    issued = broker.issue("video/mp4", size=1000, owner="bert")
    assert issued.upload_token
    assert issued.upload_token not in repr(issued)


def test_media_are_listed_linked_and_deleted(broker: Client) -> None:
    ids = [broker.upload(CLIP).media_id for _ in range(2)]
    assert [media.media_id for media in broker.media(status="ready")] == ids[::-1]
    link = broker.link(ids[0], expires_in=60, download=True)
    assert "attachment" in httpx.get(str(link.signed_url)).headers["Content-Disposition"]
    broker.delete(ids[0])
    assert [media.media_id for media in broker.media()] == ids[1:]
    with pytest.raises(BrokerProblem, match="no such media"):
        broker.delete(ids[0])


def test_waiting_returns_when_another_client_completes(broker: Client, served: PartsBroker) -> None:
    issued = broker.issue("video/mp4", size=CLIP.stat().st_size)
    form = issued.document["upload"]
    httpx.post(form["url"], data=form["fields"], files={"file": CLIP.read_bytes()}).raise_for_status()
    headers = {"Authorization": f"Bearer {served.token}"}
    other = threading.Thread(target=httpx.post, args=(issued.document["complete_url"],), kwargs={"headers": headers})
    other.start()
    assert broker.wait(issued.media_id, seconds=20).status == "ready"
    other.join()


def test_waiting_ends_in_time(broker: Client) -> None:
    issued = broker.issue("video/mp4", size=1000)
    with pytest.raises(TimeoutError, match="is still pending"):
        broker.wait(issued.media_id, seconds=1)


@pytest.mark.parametrize(
    ("file", "error", "words"),
    [
        ("notes.unknown", FileRefused, "content_type should be given"),
        ("notes.txt", BrokerProblem, "Content type not allowed: "),
        ("absent.mp4", FileNotFoundError, "absent.mp4"),
    ],
)
def test_a_file_that_cannot_be_uploaded_says_why(
    broker: Client, tmp_path: Path, file: str, error: type[Exception], words: str
) -> None:
    if not file.startswith("absent"):
        (tmp_path / file).write_text("no video")
    with pytest.raises(error, match=re.escape(words)):
        broker.upload(tmp_path / file)


def test_another_server_and_no_server_are_told_apart(served: PartsBroker) -> None:
    with Client(served.s3.endpoint_url, "token") as other, pytest.raises(ClientError, match="but it is not a broker"):
        other.delete("x")
    with Client("http://127.0.0.1:9/api", "token") as silent, pytest.raises(Unreachable, match="No broker answers at"):
        silent.delete("x")


def test_a_token_is_asked_for_anew_and_never_quoted(served: PartsBroker) -> None:
    tokens = iter(["wrong", served.token])
    with Client(served.prefix, lambda: next(tokens)) as broker:
        with pytest.raises(BrokerProblem, match="Not authenticated"):
            list(broker.media())
        assert list(broker.media()) == []
    with Client(served.prefix, "a secret\nof mine") as broker, pytest.raises(ValueError, match="printable") as refused:
        list(broker.media())
    assert "secret" not in str(refused.value)


async def test_the_asynchronous_client_uploads_several_files_at_once(served: PartsBroker, video: Path) -> None:
    async def current() -> str:
        return served.token

    async with AsyncClient(served.prefix, current) as broker:
        small, large = await asyncio.gather(broker.upload(CLIP), broker.upload(video, resumable_over=OVER))
        assert {media.media_id async for media in broker.media()} == {small.media_id, large.media_id}
        assert (await broker.wait(large.media_id)).size == video.stat().st_size


@pytest.mark.parametrize("text", [GUIDE, README], ids=["guide", "README"])
def test_the_example_runs(served: PartsBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "film.mp4").write_bytes(CLIP.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert example(served, "client", text)["media"].status == "ready"


def test_the_client_loads_neither_the_server_nor_the_database() -> None:
    program = "import sys, broker.client; print({'fastapi', 'sqlalchemy', 'botocore'} & sys.modules.keys())"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


def test_the_guides_example_on_behalf_of_a_user_runs(served: PartsBroker) -> None:
    issued = example(served, "behalf", Client=Client)["issue_for"]("bert", "video/mp4", 1000)
    assert issued["upload_token"]


async def test_the_guides_asynchronous_example_runs(served: PartsBroker) -> None:
    names = example(served, "asynchronous")
    assert await names["keep"](os.fspath(CLIP))


def example(served: PartsBroker, name: str, text: str = GUIDE, **names: Any) -> dict[str, Any]:
    """Run an example with the address of `served`, and return its names."""
    code = text.partition(f"<!-- {name} -->\n```python\n")[2].partition("```\n")[0]
    assert code
    names["token"] = served.token
    exec(compile(code.replace("https://api.example/api/v1/s3-media", served.prefix), name, "exec"), names)  # noqa: S102
    return names
