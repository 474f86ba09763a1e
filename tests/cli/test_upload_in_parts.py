"""`broker upload` of large files: parts in parallel, each sent again alone, and a stopped upload that goes on."""

import hashlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from broker.app import PREFIX
from broker.cli.unfinished import Unfinished, upload_in_parts
from broker.client import Client, FileChanged, FileRefused, Media
from broker.client.wire import Rest
from broker.clock import utc_now
from broker.dev.s3 import EmbeddedS3, Fault
from broker.dev.tokens import mint_token
from tests.cli.conftest import no_rest
from tests.cli.relay import Relay
from tests.support.databases import sqlite_url
from tests.support.processes import done, environment, running
from tests.support.waiting import until

MIB = 1024**2
PART = 5 * MIB
POLICY_SECONDS = 300
SECRET = "a secret of the tests of the command line"
SIZE = int(os.environ.get("BROKER_TEST_UPLOAD_MIB", "120")) * MIB
SMALL = 22 * MIB
"""Five parts: more than are sent at the same time."""
OVER = 40 * MIB
"""Large enough for `broker upload` to send parts by itself."""


def token(owner: str) -> str:
    return mint_token(
        SECRET, owner=owner, scope="media:upload media:read media:delete", ttl_seconds=3600, now=utc_now()
    )


@dataclass
class Place:
    """A broker whose clients reach S3 through a relay, and one of these clients with its folder."""

    s3: EmbeddedS3
    s3_client: Any
    bucket: str
    relay: Relay
    url: str
    folder: Path
    owner: str

    @property
    def token(self) -> str:
        return token(self.owner)

    @property
    def variables(self) -> dict[str, str]:
        return {"BROKER_URL": self.url, "BROKER_TOKEN": self.token, "BROKER_UPLOAD_STATE": str(self.folder / "state")}

    def file(self, name: str, size: int) -> Path:
        """Make a file of random bytes, repeated every 8 MiB and one, so that no two parts are equal."""
        piece = os.urandom(8 * MIB + 1)
        path = self.folder / name
        with path.open("wb") as file:
            for written in range(0, size, len(piece)):
                file.write(piece[: size - written])
        return path

    def stored_keys(self) -> list[str]:
        return [entry["Key"] for entry in self.s3_client.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def staged(self) -> list[str]:
        """Return the keys of the parts that have arrived."""
        return [key for key in self.stored_keys() if re.fullmatch(r"staging/.*/\d{5}", key)]

    def stored(self) -> int:
        return len(self.staged())

    def has_stored(self, parts: float) -> bool:
        return self.stored() >= parts

    def unfinished(self, file: Path) -> Unfinished:
        return Unfinished(self.folder / "state", url=self.url, token=self.token, file=file, content_type="video/mp4")

    def upload(self, file: Path, *, rest: Rest = no_rest, on_progress: Callable[[int], object] | None = None) -> Media:
        """Upload in this process, without rests; `on_progress` gets the bytes since its last call."""
        loaded = 0

        def progressed(total: int, _: int) -> None:
            nonlocal loaded
            before, loaded = loaded, total
            if on_progress is not None:
                on_progress(total - before)

        with Client(self.url, self.token, rest=rest) as client:
            return upload_in_parts(client, file, "video/mp4", self.unfinished(file), progressed)

    @contextmanager
    def starting(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start `broker upload`; kill it on exit if it still runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "broker", "upload", *arguments],
            cwd=self.folder,
            env=environment(self.folder, **self.variables),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A shell lets what it starts in the background ignore Ctrl-C, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@contextmanager
def serving(s3: EmbeddedS3, bucket: str, folder: Path, **settings: str) -> Iterator[str]:
    """Serve a broker of a bucket, and return the URL of its routes."""
    settings |= {
        "SECRET_KEY": SECRET,
        "CLOUD_STORAGE_PROVIDER": "s3",
        "AWS_S3_BUCKET_NAME": bucket,
        "AWS_S3_REGION": s3.region,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "BROKER_S3_ENDPOINT_URL": s3.endpoint_url,
        "BROKER_S3_PATH_STYLE": "true",
        "BROKER_DATABASE_URL": sqlite_url(folder),
        "MAX_FILE_SIZE": str(4096 * MIB),
        **{f"BROKER_RATE_LIMIT_{kind}": "off" for kind in ("ADDRESS", "ISSUE", "COMPLETE", "PARTS")},
    }
    with running("serve", "--port", "0", cwd=folder, **settings) as server:
        yield server.wait_for(r"running on (http://[^\s\"]+)").group(1) + PREFIX


@pytest.fixture(scope="module")
def shared(
    embedded_s3: EmbeddedS3, s3_client: Any, make_bucket: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Serve a broker and the relay for all tests of this module."""
    folder, bucket = tmp_path_factory.mktemp("broker"), make_bucket()
    with Relay(embedded_s3.endpoint_url) as relay:
        settings = {
            "BROKER_PART_SIZE": str(PART),
            "BROKER_POLICY_SECONDS": str(POLICY_SECONDS),
            "BROKER_S3_PUBLIC_ENDPOINT_URL": relay.url,
        }
        with serving(embedded_s3, bucket, folder, **settings) as url:
            yield Place(embedded_s3, s3_client, bucket, relay, url, folder, "anna")


@pytest.fixture
def place(shared: Place, tmp_path: Path) -> Iterator[Place]:
    """Return an empty bucket, a relay at full speed that has counted nothing, and a client of its own."""
    shared.relay.limit = None
    until(lambda: not shared.relay.connections)
    shared.relay.reset()
    for key in shared.stored_keys():
        shared.s3_client.delete_object(Bucket=shared.bucket, Key=key)
    yield replace(shared, folder=tmp_path, owner=f"anna-{secrets.token_hex(4)}")
    shared.s3.clear_faults()
    shared.s3.set_clock(0)
    shared.relay.cut()


def link(media: Media) -> str:
    assert media.signed_url is not None
    return media.signed_url


def digest_of(link: str) -> str:
    digest = hashlib.sha256()
    with httpx.stream("GET", link) as answer:
        assert answer.status_code == 200
        for chunk in answer.iter_bytes():
            digest.update(chunk)
    return digest.hexdigest()


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.timeout(900)
def test_a_large_upload_that_is_killed_twice_goes_on_within_little_memory(place: Place) -> None:
    file = place.file("film.mp4", SIZE)
    parts = -(-SIZE // PART)
    most = 0
    for dies_after in (parts * 0.3, parts * 0.6):
        with place.starting(str(file)) as process:
            until(partial(place.has_stored, dies_after))
            most = max(most, _rss(process.pid))
            process.send_signal(signal.SIGKILL)
            process.wait(10)
    with place.starting(str(file), "--json") as process:
        while process.poll() is None:
            most = max(most, _rss(process.pid))
            time.sleep(0.05)
        told, errors = process.communicate()
    assert process.returncode == 0, errors
    assert digest_of(json.loads(told)["signed_url"]) == digest_of_file(file)
    again = place.relay.bytes_sent - SIZE
    sys.stdout.write(
        f"\n{SIZE / MIB:.0f} MiB, killed twice: {again / MIB:.1f} MiB sent again; at most {most / MIB:.0f} MiB held\n"
    )
    assert again < 2 * 5 * PART  # at each kill: four parts on their way, and what buffers held
    assert most < 150 * MIB
    assert list((place.folder / "state").iterdir()) == []


def _rss(pid: int) -> int:
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def test_ctrl_c_says_how_to_go_on(place: Place) -> None:
    file = place.file("film.mp4", OVER)
    place.relay.limit = 6 * PART  # of eight, of which four are on their way
    with place.starting(file.name) as process:
        until(partial(place.has_stored, 2))
        process.send_signal(signal.SIGINT)
        told, errors = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "")
    assert "Stopped. The parts of film.mp4 that have arrived are kept; run the same command again to go on." in errors
    assert "Traceback" not in errors
    place.relay.limit = None
    until(lambda: not place.relay.connections)
    before = place.relay.bytes_sent
    arrived = place.stored()
    with place.starting(file.name) as process:
        told, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert digest_of(told.strip()) == digest_of_file(file)
    assert place.relay.bytes_sent - before < (8 - arrived) * PART + MIB


def test_parts_are_sent_in_parallel_and_beat_one_form_on_a_slow_link(place: Place) -> None:
    file = place.file("film.mp4", SMALL)
    place.relay.rate, place.relay.delay = 8 * MIB, 0.1
    began = time.monotonic()
    in_parts = place.upload(file)
    parts_took, most_at_once = time.monotonic() - began, place.relay.most_at_once
    place.relay.most_at_once = 0
    began = time.monotonic()
    with Client(place.url, place.token) as client:
        in_one = client.upload(file, resumable_over=SMALL)
    form_took = time.monotonic() - began
    sys.stdout.write(f"\n22 MiB at 8 MiB/s and 100 ms: {parts_took:.1f} s in parts, {form_took:.1f} s in one form\n")
    assert (most_at_once, place.relay.most_at_once) == (4, 1)
    assert digest_of(link(in_parts)) == digest_of(link(in_one))


@pytest.mark.timeout(900)
def test_parts_cost_about_as_much_as_one_form(place: Place) -> None:
    file = place.file("film.mp4", SIZE)
    took, links = {}, {}
    # As `broker dev` does it: parts of the default size, which reach S3 without a relay.
    with serving(place.s3, place.bucket, place.folder) as url:
        for way in ("--no-resume", "--resume"):
            os.sync()  # so that neither waits until the disk has taken what came before
            began = time.monotonic()
            uploaded = done("upload", way, file.name, cwd=place.folder, **(place.variables | {"BROKER_URL": url}))
            took[way] = time.monotonic() - began
            assert uploaded.returncode == 0, uploaded.stderr
            links[way] = uploaded.stdout.strip()
    sys.stdout.write(
        f"\n{SIZE / MIB:.0f} MiB: {took['--resume']:.1f} s in parts, {took['--no-resume']:.1f} s in one form\n"
    )
    assert digest_of(links["--resume"]) == digest_of(links["--no-resume"]) == digest_of_file(file)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("PostObject", reset=True), Fault("PostObject", code="SlowDown", status=503)],
        [Fault("PostObject", code="RequestTimeout", status=400)],
        [Fault("PostObject", reset=True, when="after")],
    ],
    ids=["a reset and a 503", "a time-out", "a lost answer"],
)
def test_a_part_that_fails_is_sent_again_alone(place: Place, faults: list[Fault]) -> None:
    file = place.file("film.mp4", SMALL)
    for fault in faults:
        place.s3.order_fault(fault)
    assert digest_of(link(place.upload(file))) == digest_of_file(file)
    assert place.relay.bytes_sent <= SMALL + len(faults) * PART + MIB


def test_a_network_that_breaks_costs_the_parts_on_their_way_alone(place: Place) -> None:
    file = place.file("film.mp4", 60 * MIB)
    place.relay.rate = 20 * MIB
    cuts = 0

    def cut_at_each_third(_: int) -> None:
        nonlocal cuts
        if place.relay.bytes_sent > (cuts + 1) * 20 * MIB and cuts < 2:
            cuts += 1
            place.relay.cut()

    assert digest_of(link(place.upload(file, on_progress=cut_at_each_third))) == digest_of_file(file)
    assert cuts == 2
    assert place.relay.bytes_sent <= 60 * MIB + 2 * 4 * PART + MIB


def test_progress_counts_each_byte_of_the_file_once(place: Place) -> None:
    file = place.file("film.mp4", SMALL + 1)
    counted: list[int] = []
    place.s3.order_fault(Fault("PostObject", reset=True))
    place.upload(file, on_progress=counted.append)
    assert sum(counted) == SMALL + 1


def test_a_part_that_is_lost_after_its_acknowledgement_is_sent_again(place: Place) -> None:
    file = place.file("film.mp4", SMALL)
    counted: list[int] = []

    def lose_one(size: int) -> None:
        counted.append(size)
        if sum(counted) == SMALL and len(counted) < 2000:
            counted.extend([0] * 2000)
            place.s3_client.delete_object(Bucket=place.bucket, Key=min(place.staged()))

    assert digest_of(link(place.upload(file, on_progress=lose_one))) == digest_of_file(file)
    assert sum(counted) == SMALL


def test_an_s3_whose_clock_is_ahead_is_named(place: Place) -> None:
    file = place.file("film.mp4", SMALL)
    place.s3.set_clock(2 * POLICY_SECONDS)
    try:
        with pytest.raises(FileRefused, match="S3 refused the upload: AccessDenied: the policy has expired"):
            place.upload(file)
    finally:
        place.s3.set_clock(0)
    assert place.unfinished(file).is_known


def test_a_form_that_expired_is_replaced(place: Place) -> None:
    file = place.file("film.mp4", SMALL)
    place.s3.set_clock(2 * POLICY_SECONDS)

    async def wait_for_the_clock(_: float) -> None:
        place.s3.set_clock(0)

    uploaded = place.upload(file, rest=wait_for_the_clock)
    assert digest_of(link(uploaded)) == digest_of_file(file)


def test_a_file_that_changes_during_the_upload_is_reported(place: Place) -> None:
    file = place.file("film.mp4", SMALL)

    def change(_: int) -> None:
        os.utime(file, ns=(0, 0))

    with pytest.raises(FileChanged, match=r"^The file changed while it was being sent\.$"):
        place.upload(file, on_progress=change)
    assert not place.unfinished(file).is_known


def test_a_file_that_shrinks_during_the_upload_is_reported(place: Place) -> None:
    file = place.file("film.mp4", SMALL)
    with pytest.raises(FileChanged, match=r"^The file changed while it was being sent\.$"):
        place.upload(file, on_progress=lambda _: os.truncate(file, 1))


@dataclass
class Again:
    """A way in which the second upload differs from the stopped one."""

    goes_on: bool
    owner: str = ""
    content_type: str = "video/mp4"
    touched: bool = False
    cancelled: bool = False


AGAIN = {
    "the same file": Again(goes_on=True),
    "another owner": Again(goes_on=False, owner="ben"),
    "another type": Again(goes_on=False, content_type="video/webm"),
    "another file of the same name": Again(goes_on=False, touched=True),
    "the media was deleted meanwhile": Again(goes_on=False, cancelled=True),
}


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
def test_only_the_same_upload_goes_on(place: Place, again: Again) -> None:
    file = place.file("film.mp4", OVER)
    stopped = 0

    def stop(size: int) -> None:
        nonlocal stopped
        stopped += size
        if place.stored() >= 3:
            raise OSError("stopped")

    with pytest.raises(OSError, match="stopped"):
        place.upload(file, on_progress=stop)
    headers = {"Authorization": f"Bearer {place.token}"}
    (first,) = httpx.get(f"{place.url}/", headers=headers).json()["media"]
    if again.touched:
        os.utime(file, ns=(1, 1))
    if again.cancelled:
        httpx.delete(f"{place.url}/{first['media_id']}", headers=headers).raise_for_status()
    variables = place.variables | {"BROKER_TOKEN": token(again.owner or place.owner)}
    second = done("upload", "--json", "--content-type", again.content_type, file.name, cwd=place.folder, **variables)
    assert second.returncode == 0, second.stderr
    assert (json.loads(second.stdout)["media_id"] == first["media_id"]) is again.goes_on


def test_without_resuming_a_file_goes_in_one_form(place: Place) -> None:
    file = place.file("film.mp4", OVER)
    uploaded = done("upload", "--no-resume", file.name, cwd=place.folder, **place.variables)
    assert uploaded.returncode == 0, uploaded.stderr
    assert place.relay.most_at_once == 1
    assert not (place.folder / "state").exists()


def test_several_files_are_uploaded_and_each_failure_is_named(place: Place) -> None:
    for name, size in [("one.mp4", 1000), ("two.webm", OVER), ("empty.mp4", 0)]:
        place.file(name, size)
    sent = done("upload", "one.mp4", "empty.mp4", "two.webm", cwd=place.folder, **place.variables)
    assert sent.returncode == 1
    assert [digest_of(link) for link in sent.stdout.split()] == [
        digest_of_file(place.folder / name) for name in ("one.mp4", "two.webm")
    ]
    assert "empty.mp4: Size not allowed: The size of 0 bytes is not allowed" in sent.stderr


def test_json_has_one_line_for_each_file(place: Place) -> None:
    for name, size in [("one.mp4", 1000), ("empty.mp4", 0)]:
        place.file(name, size)
    sent = done("upload", "--json", "one.mp4", "empty.mp4", cwd=place.folder, **place.variables)
    one, empty = map(json.loads, sent.stdout.splitlines())
    assert one.keys() == {"file", "success", "media_id", "signed_url", "expires_at"}
    assert (one["file"], one["success"]) == ("one.mp4", True)
    assert (empty["file"], empty["success"]) == ("empty.mp4", False)
    assert empty["error"].startswith("Size not allowed: ")


def test_a_folder_that_cannot_be_written_only_forbids_resuming(place: Place) -> None:
    file = place.file("film.mp4", SMALL)
    (place.folder / "state").write_text("a file, not a folder")
    assert digest_of(link(place.upload(file))) == digest_of_file(file)


def test_a_note_removes_old_notes_alone(tmp_path: Path) -> None:
    name = "0123456789abcdef" * 2
    notes = {name: b"a key", f"{name[::-1]}.part": b""}
    others = {"holiday.mp4": b"", name.replace("0", "f"): bytes(1000)}
    for each, content in (notes | others).items():
        (tmp_path / each).write_bytes(content)
    (tmp_path / name.replace("0", "e")).mkdir()
    before = set(tmp_path.iterdir())
    for path in before:
        os.utime(path, (1, 1))
    file = tmp_path / "holiday.mp4"
    key = Unfinished(tmp_path, url="", token="", file=file, content_type="video/mp4").key()
    after = set(tmp_path.iterdir())
    assert {path.name for path in before - after} == notes.keys()
    assert [path.read_text() for path in after - before] == [key]
