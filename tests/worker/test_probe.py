"""Real films and files that pretend to be one: the verdict on each, and its cost."""

import asyncio
import resource
import stat
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from broker.aws.bucket import Bucket
from broker.dev.s3 import EmbeddedS3, Fault
from broker.domain.keys import staging_key
from broker.domain.media import Media, State, Video
from broker.domain.s3.sigv4 import SignedRead
from broker.errors import ProbeFailed, SettingsInvalid, StorageUnavailable, UploadRejected
from broker.lifecycle import probe as probing
from broker.lifecycle.probe import CONCURRENCY, Probe
from broker.lifecycle.settlement import MAX_JUDGEMENTS
from tests.support.in_parts import MIB, PART, left_over, uploaded
from tests.support.npm import program
from tests.support.processes import CLIP, done
from tests.support.s3_proxy import PASS, Fate, Request, S3Proxy
from tests.support.world import MakeWorld, World, outcome_of
from tests.worker.conftest import until
from tests.worker.films import H264, film, padded, rotated

MAX_SECONDS = 300
PIECE_SECONDS = 16384 * 8 / 100e6
MB = 1_000_000


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture
def probe() -> Probe:
    return Probe(program("ffprobe"), timeout_seconds=20)


@pytest.fixture
def looking(make_world: MakeWorld, probe: Probe) -> World:
    """Return a broker that looks into videos."""
    return make_world(probe=probe, max_video_seconds=MAX_SECONDS, max_size=60 * MB)


def streamed(folder: Path, name: str) -> Path:
    """Make a webm as a browser's recorder does: it cannot go back, and so names no duration."""
    path = folder / name
    ffmpeg = [program("ffmpeg"), "-v", "error", *("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10"), "-t", "3"]
    made = subprocess.run([*ffmpeg, "-c:v", "libvpx", "-f", "webm", "-"], check=True, capture_output=True)
    path.write_bytes(made.stdout)
    return path


def _rotated(folder: Path, *, degrees: int) -> Path:
    return rotated(film(folder, "a.mp4", *H264), degrees, f"{degrees}.mp4")


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


FILMS: dict[str, tuple[str, Callable[[Path], Path], Video]] = {
    "mp4 with its index at the end": (
        "video/mp4",
        lambda folder: film(folder, "end.mp4", *H264),
        Video(2.0, "h264", 320, 180),
    ),
    "mp4 with its index in front": (
        "video/mp4",
        lambda folder: film(folder, "front.mp4", *H264, "-movflags", "+faststart"),
        Video(2.0, "h264", 320, 180),
    ),
    "mp4 in fragments": (
        "video/mp4",
        lambda folder: film(
            folder, "fragments.mp4", *H264, "-g", "10", "-movflags", "frag_keyframe+empty_moov", seconds=4
        ),
        Video(4.0, "h264", 320, 180),
    ),
    "webm": ("video/webm", lambda folder: film(folder, "a.webm", "-c:v", "libvpx"), Video(2.0, "vp8", 320, 180)),
    "webm of a browser's recorder": (
        "video/webm",
        lambda folder: streamed(folder, "recorded.webm"),
        Video(3.0, "vp8", 320, 180),
    ),
    "3gp": (
        "video/3gpp",
        lambda folder: film(folder, "a.3gp", "-c:v", "h263", "-s", "176x144"),
        Video(2.0, "h263", 256, 144),
    ),
    "mov": ("video/quicktime", lambda folder: film(folder, "a.mov", *H264), Video(2.0, "h264", 320, 180)),
    "mkv": ("video/x-matroska", lambda folder: film(folder, "a.mkv", *H264), Video(2.0, "h264", 320, 180)),
    "avi": (
        "video/x-msvideo",
        lambda folder: film(folder, "a.avi", "-c:v", "mpeg4"),
        Video(2.0, "mpeg4", 320, 180),
    ),
    "ts": ("video/mp2t", lambda folder: film(folder, "a.ts", *H264), Video(2.0, "h264", 320, 180)),
    "mpg": (
        "video/mpeg",
        lambda folder: film(folder, "a.mpg", "-r", "25", "-c:v", "mpeg1video"),
        Video(2.0, "mpeg1video", 320, 180),
    ),
    **{
        f"upright, by {degrees} degrees": (
            "video/mp4",
            partial(_rotated, degrees=degrees),
            Video(2.0, "h264", *size),
        )
        for degrees, size in {90: (180, 320), 180: (320, 180), 270: (180, 320)}.items()
    },
    "wide pixels": (
        "video/mp4",
        lambda folder: film(folder, "wide.mp4", "-vf", "setsar=64/45", *H264),
        Video(2.0, "h264", 455, 180),
    ),
    "tall pixels, in Matroska": (
        "video/x-matroska",
        lambda folder: film(folder, "tall.mkv", "-vf", "setsar=1/2", *H264),
        Video(2.0, "h264", 320, 360),
    ),
    "wide pixels, upright": (
        "video/mp4",
        lambda folder: rotated(film(folder, "wide.mp4", "-vf", "setsar=64/45", *H264), 90, "wide-90.mp4"),
        Video(2.0, "h264", 180, 455),
    ),
    "the clip of this repository": ("video/mp4", lambda _: CLIP, Video(2.0, "h264", 128, 72)),
}


def sound(folder: Path, name: str, *more: str) -> Path:
    path = folder / name
    sine = ["-f", "lavfi", "-i", "sine=duration=2"]
    subprocess.run([program("ffmpeg"), "-v", "error", "-y", *sine, *more, str(path)], check=True)
    return path


def with_cover(folder: Path) -> Path:
    cover = film(folder, "cover.png", "-frames:v", "1")
    more = ("-i", str(cover), "-map", "0", "-map", "1", "-c:v", "png", "-disposition:v", "attached_pic")
    return sound(folder, "cover.m4a", *more)


PRETENDERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "ten minutes": (
        lambda folder: film(folder, "long.mp4", "-r", "1", *H264, seconds=600),
        "the duration is 600.0 seconds, over 300",
    ),
    "a text": (lambda folder: written(folder, "text.mp4", b"Once upon a time. " * 500), "it is not a video"),
    "one byte": (lambda folder: written(folder, "byte.mp4", b"x"), "it is not a video"),
    "a page": (
        lambda folder: written(folder, "page.mp4", b"<!doctype html><script>alert(1)</script>"),
        "it is not a video",
    ),
    "zeros": (lambda folder: written(folder, "zeros.mp4", bytes(2 * MB)), "it is not a video"),
    "a picture": (lambda folder: film(folder, "picture.png", "-frames:v", "1"), "it is not a video"),
    "sound alone": (lambda folder: sound(folder, "sound.m4a"), "it is not a video"),
    "sound with a cover": (with_cover, "it is not a video"),
    "an mp4 that was cut off": (
        lambda folder: written(folder, "cut.mp4", film(folder, "end.mp4", *H264).read_bytes()[:-3000]),
        "it is not a video",
    ),
}


async def put(world: World, path: Path, content_type: str) -> Media:
    """Have a media whose staging object is this file."""
    issued = await world.issue(size=path.stat().st_size, content_type=content_type)
    key = staging_key(issued.media.id)
    world.s3.put_object(Bucket=world.bucket.config.name, Key=key, Body=path.read_bytes(), ContentType=content_type)
    return issued.media


@pytest.mark.parametrize("name", FILMS)
async def test_a_ready_film_has_its_probed_properties(name: str, looking: World, films: Path) -> None:
    content_type, make, expected = FILMS[name]
    media = await put(looking, make(films), content_type)
    playback = await looking.verbs.complete(media.id, "anna")
    seen = playback.media.video
    assert seen is not None
    assert (seen.codec, seen.width, seen.height) == (expected.codec, expected.width, expected.height)
    assert seen.seconds == pytest.approx(expected.seconds, abs=0.25)
    assert (await looking.store.get(media.id, None)).video == seen


@pytest.mark.parametrize("name", PRETENDERS)
async def test_a_film_that_is_too_long_or_no_film_is_rejected(name: str, looking: World, films: Path) -> None:
    make, reason = PRETENDERS[name]
    media = await put(looking, make(films), "video/mp4")
    with pytest.raises(UploadRejected) as raised:
        await looking.verbs.complete(media.id, "anna")
    assert raised.value.facts["differences"] == reason
    await looking.purged()
    assert looking.staged_bytes(media) is None
    seen = (await looking.store.get(media.id, None)).video
    assert (seen is None) == (reason == "it is not a video")


PADDED_CLIP = CLIP.read_bytes() + struct.pack(">I4s", 6 * MIB, b"free") + bytes(6 * MIB - 8)
"""A film of two parts: behind it lies a box that players skip (ISO/IEC 14496-12, section 8.1.2)."""


def composing(make_world: MakeWorld, probe: Probe, *, max_video_seconds: int = MAX_SECONDS) -> World:
    """Return a broker that looks into videos of several parts."""
    return make_world(probe=probe, max_video_seconds=max_video_seconds, max_size=20 * MB, part_size=PART)


async def test_a_composed_film_has_its_probed_properties(make_world: MakeWorld, probe: Probe) -> None:
    world = composing(make_world, probe)
    issued = await uploaded(world, PADDED_CLIP)
    ready = (await world.verbs.complete(issued.media.id, "anna")).media
    assert (ready.state, ready.layout.count) == (State.READY, 2)
    assert ready.video == Video(2.0, "h264", 128, 72)
    await world.purged()
    assert left_over(world, issued.media) == []
    assert await world.ready_bytes(ready.id) == PADDED_CLIP


@pytest.mark.parametrize(
    ("content", "max_seconds", "reason"),
    [
        (PADDED_CLIP, 1, "the duration is 2.0 seconds, over 1"),
        (bytes(6 * MIB), MAX_SECONDS, "it is not a video"),
    ],
    ids=["too long", "no video"],
)
async def test_a_composed_object_that_the_probe_refuses_is_rejected_and_leaves_nothing(
    content: bytes, max_seconds: int, reason: str, make_world: MakeWorld, probe: Probe
) -> None:
    world = composing(make_world, probe, max_video_seconds=max_seconds)
    issued = await uploaded(world, content)
    with pytest.raises(UploadRejected) as raised:
        await world.verbs.complete(issued.media.id, "anna")
    assert raised.value.facts["differences"] == reason
    await world.purged()
    assert left_over(world, issued.media) == []
    assert world.final_bytes(issued.media) is None
    rejected = await world.store.get(issued.media.id, None)
    assert (rejected.state, rejected.differences) == (State.REJECTED, reason)
    assert (await world.store.usage("anna")).stored_bytes == 0


async def test_a_composed_object_that_cannot_be_probed_is_probed_again_and_then_rejected(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = composing(make_world, pretending(tmp_path / "program", "exit 3"))
    issued = await uploaded(world, PADDED_CLIP)
    for _ in range(MAX_JUDGEMENTS - 2):  # the judgement of the parts is one of them
        assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "ProbeFailed"
        assert await world.state(issued.media.id) == State.PROMOTING
    assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "UploadRejected"
    await world.purged()
    assert left_over(world, issued.media) == []
    assert world.final_bytes(issued.media) is None


@dataclass
class Relay:
    """Pass connections on to S3, and count what it sends back, at the pace of a network of about 100 Mbit/s.

    Without one, what is sent before a reader can close depends on how busy the machine is.
    """

    s3: EmbeddedS3
    port: int = 0
    bytes_sent: int = 0
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        from_s3, to_s3 = await asyncio.open_connection("127.0.0.1", self.s3.port)

        async def ask() -> None:
            while piece := await reader.read(65536):
                to_s3.write(piece)
            to_s3.close()

        async def answer() -> None:
            while piece := await from_s3.read(16384):
                writer.write(piece)
                await writer.drain()
                self.bytes_sent += len(piece)
                await asyncio.sleep(PIECE_SECONDS)
            writer.close()

        await asyncio.gather(ask(), answer(), return_exceptions=True)
        writer.close()
        to_s3.close()


@asynccontextmanager
async def relaying(s3: EmbeddedS3) -> AsyncIterator[Relay]:
    relay = Relay(s3)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    yield relay
    server.close()


async def test_of_fifty_megabytes_a_fraction_is_fetched_and_none_by_the_broker(
    make_world: MakeWorld, probe: Probe, films: Path, embedded_s3: EmbeddedS3, record_property: Any
) -> None:
    big = padded(films / "big.mp4", 50 * MB)
    size = big.stat().st_size
    assert size == 50 * MB
    async with relaying(embedded_s3) as relay:
        world = make_world(
            probe=probe,
            max_video_seconds=MAX_SECONDS,
            max_size=60 * MB,
            endpoint_url=f"http://127.0.0.1:{relay.port}",
        )
        media = await put(world, big, "video/mp4")
        before = psutil.Process().memory_info().rss
        playback = await world.verbs.complete(media.id, "anna")
        grown = psutil.Process().memory_info().rss - before
    assert playback.media.video == Video(60.0, "h264", 320, 180)
    record_property("bytes_fetched", relay.bytes_sent)
    print(f"of {size:,} bytes {relay.bytes_sent:,} were fetched; the process grew by {grown:,}")  # noqa: T201
    assert relay.bytes_sent < 5 * MB
    assert grown < 8 * MB


async def test_a_playlist_opens_no_other_file_or_address(looking: World, films: Path, embedded_s3: EmbeddedS3) -> None:
    async with relaying(embedded_s3) as relay:
        target = f"http://127.0.0.1:{relay.port}/segment.ts"
        texts = {
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
            "concat": f"ffconcat version 1.0\nfile '{target}'\n",
            "file": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
            "dash": f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{target}</BaseURL></MPD>',
        }
        for name, text in texts.items():
            media = await put(looking, written(films, f"{name}.mp4", text.encode()), "video/mp4")
            with pytest.raises(UploadRejected):
                await looking.verbs.complete(media.id, "anna")
        assert relay.connections == 0


async def test_only_the_judged_object_is_probed(looking: World, films: Path, probe: Probe) -> None:
    media = await put(looking, CLIP, "video/mp4")
    with pytest.raises(StorageUnavailable):
        await probe.inspect(lambda: looking.bucket.signed_read(staging_key(media.id), "0" * 32))


async def test_a_probe_that_waits_for_its_turn_gets_its_signature_afterwards(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    released = tmp_path / "released"
    hangs_on_others = f'case "$*" in *elsewhere*) until [ -e "{released}" ]; do /bin/sleep 0.05; done; exit 3;; esac'
    path = pretended(tmp_path / "program", f'{hangs_on_others}\nexec {program("ffprobe")} "$@"')
    inspected = 0
    released_before_signing: list[bool] = []

    class CountedProbe(Probe):
        async def inspect(self, sign: Callable[[], Awaitable[SignedRead]]) -> Video | None:
            nonlocal inspected
            inspected += 1
            return await super().inspect(sign)

    class ObservedBucket(Bucket):
        async def signed_read(self, key: str, etag: str) -> SignedRead:
            released_before_signing.append(released.exists())
            return await super().signed_read(key, etag)

    async def elsewhere() -> SignedRead:
        return SignedRead("http://127.0.0.1:1/elsewhere", {})

    probe = CountedProbe(str(path), timeout_seconds=60)
    world = make_world(ObservedBucket, probe=probe, max_video_seconds=MAX_SECONDS)
    media = await put(world, CLIP, "video/mp4")
    others = [asyncio.create_task(probe.inspect(elsewhere)) for _ in range(CONCURRENCY)]
    completing = asyncio.create_task(world.verbs.complete(media.id, "anna"))
    await until(lambda: inspected == CONCURRENCY + 1)
    released.touch()
    assert (await completing).media.state is State.READY
    assert released_before_signing == [True]
    assert {type(end) for end in await asyncio.gather(*others, return_exceptions=True)} == {ProbeFailed}


async def test_an_unavailable_s3_is_no_verdict(looking: World, embedded_s3: EmbeddedS3) -> None:
    media = await put(looking, CLIP, "video/mp4")
    for _ in range(MAX_JUDGEMENTS + 1):
        embedded_s3.order_fault(Fault("GetObject", code="SlowDown", status=503))
        with pytest.raises(StorageUnavailable):
            await looking.verbs.complete(media.id, "anna")
    assert await looking.state(media.id) == State.PENDING
    assert (await looking.verbs.complete(media.id, "anna")).media.state is State.READY


async def test_a_read_that_stalls_is_no_verdict(
    make_world: MakeWorld, probe: Probe, embedded_s3: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "SERVED_SECONDS", 0.3)
    resumed = asyncio.Event()

    async def stall(request: Request) -> Fate:
        return Fate(until=resumed) if request.method == "GET" else PASS

    async with S3Proxy(embedded_s3.endpoint_url, stall).serving() as proxy:
        world = make_world(probe=probe, endpoint_url=proxy.url, public_endpoint_url=embedded_s3.endpoint_url)
        media = await put(world, CLIP, "video/mp4")
        probe.timeout_seconds = 0.5
        for _ in range(MAX_JUDGEMENTS):
            assert await outcome_of(world.verbs.complete(media.id, "anna")) == "StorageUnavailable"
        assert await world.state(media.id) == State.PENDING
        resumed.set()
        probe.timeout_seconds = 60
        assert await outcome_of(world.verbs.complete(media.id, "anna")) == State.READY


NOT_IMPLEMENTED = b"\x1a\x45\xdf\xa3\xa3" + b"".join(
    [
        *(b"\x42\x86\x81\x01", b"\x42\xf7\x81\x01", b"\x42\xf2\x81\x08", b"\x42\xf3\x81\x08"),
        *(b"\x42\x82\x88matroska", b"\x42\x87\x81\x04", b"\x42\x85\x81\x02"),
        b"\x18\x53\x80\x67\x80",
    ]
)
"""A Matroska file whose EBMLMaxIDLength (42F2) is 8, not supported by FFmpeg. Source: RFC 8794, section 11.2.4."""


async def test_a_file_that_ffprobe_does_not_support_is_retried_and_then_rejected(looking: World, films: Path) -> None:
    media = await put(looking, written(films, "unread.mkv", NOT_IMPLEMENTED), "video/x-matroska")
    for _ in range(MAX_JUDGEMENTS - 1):
        assert await outcome_of(looking.verbs.complete(media.id, "anna")) == "ProbeFailed"
    assert await outcome_of(looking.verbs.complete(media.id, "anna")) == "UploadRejected"


async def test_a_connection_that_is_closed_or_refused_is_no_verdict(probe: Probe) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def sign() -> SignedRead:
        return SignedRead(f"http://127.0.0.1:{port}/a", {})

    async with server:
        with pytest.raises(StorageUnavailable):
            await probe.inspect(sign)
    with pytest.raises(StorageUnavailable):
        await probe.inspect(sign)


def pretending(path: Path, script: str) -> Probe:
    """Return a probe whose program is a shell script."""
    return Probe(str(pretended(path, script)), timeout_seconds=1)


def pretended(path: Path, script: str) -> Path:
    """Make a program of a shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


SERVED = 'case "$*" in *"-f data"*) exit 0;; esac;'
"""The part of a script that answers, as ffprobe, that S3 serves the object."""


@pytest.mark.parametrize(
    "script",
    [f"{SERVED} exec /bin/sleep 600", "kill -SEGV $$", "exit 3", "echo nonsense", "while :; do echo 0123456789; done"],
)
async def test_an_upload_that_cannot_be_probed_is_retried_and_then_rejected(
    script: str, make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(probe=pretending(tmp_path / "program", script), max_video_seconds=MAX_SECONDS)
    media = await put(world, CLIP, "video/mp4")
    for _ in range(MAX_JUDGEMENTS - 1):
        with pytest.raises(ProbeFailed):
            await world.verbs.complete(media.id, "anna")
    with pytest.raises(UploadRejected) as raised:
        await world.verbs.complete(media.id, "anna")
    assert raised.value.facts["differences"] == "it could not be inspected"
    assert not [child for child in psutil.Process().children() if "sleep" in child.name()]


async def test_the_sweep_also_rejects_an_upload_that_cannot_be_probed(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(probe=pretending(tmp_path / "program", "exit 3"), max_video_seconds=MAX_SECONDS)
    media = await put(world, CLIP, "video/mp4")
    with capture_logs():
        for _ in range(MAX_JUDGEMENTS):
            await world.sweep_after(hours=1)
    assert await world.state(media.id) == State.REJECTED


async def test_the_program_gets_bounds_and_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    probe = pretending(tmp_path / "program", "/bin/sleep 0.2; /usr/bin/env; ulimit -v; ulimit -f")
    async with probe._running(SignedRead("http://127.0.0.1/", {})) as process:
        assert process.stdout is not None
        said = (await process.stdout.read()).decode().split()
    assert "AWS_SECRET_ACCESS_KEY" not in "".join(said)
    assert said[-2:] == [str(1024**2), "0"]
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 1024**3


def test_without_ffprobe_nothing_starts_and_the_reason_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="BROKER_PROBE: needs ffprobe"):
        Probe("no-such-ffprobe", timeout_seconds=1)
    settings = {
        "SECRET_KEY": "a-key-of-the-tests-and-of-another-else",
        "USE_CLOUD_STORAGE": "true",
        "AWS_S3_BUCKET_NAME": "videos",
        "BROKER_PROBE": "true",
        "BROKER_PROBE_PROGRAM": "no-such-ffprobe",
    }
    assert done("migrate", cwd=tmp_path, **settings).returncode == 0
    for command in ("serve", "worker"):
        ended = done(command, cwd=tmp_path, **settings)
        assert ended.returncode == 2
        assert ended.stderr.startswith("BROKER_PROBE: needs ffprobe (Debian: ffmpeg)")
