"""The video probe: ffprobe as a child process, which fetches the ranges that it needs from S3 by itself.

ffprobe parses untrusted uploads. So it gets an empty environment, only the protocols of one address, only the formats
of video files (none that refers to other addresses, as playlists do), and bounds on its time, memory and output.
Source: ffprobe documentation, "Protocol Options" and "Format Options".
"""

import asyncio
import errno
import json
import math
import resource
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from broker.domain.media import Video
from broker.domain.picture import displayed_size
from broker.domain.s3.sigv4 import SignedRead
from broker.errors import ProbeFailed, SettingsInvalid, StorageUnavailable

FORMATS = "mov,mp4,matroska,webm,mpeg,mpegts,ogg,avi,flv,asf"
NOT_A_VIDEO = frozenset({-1094995529, -1296385272, -22})
"""FFmpeg's errors for invalid data, an unknown format, and a forbidden format (libavutil/error.h)."""
_HTTP_ERRORS = (
    -int.from_bytes(b"\xf8" + status, "little") for status in (b"400", b"401", b"403", b"404", b"429", b"5XX")
)
_CONNECTION_ERRORS = ("ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "EPIPE", "ETIMEDOUT")
S3_UNAVAILABLE = frozenset({*_HTTP_ERRORS, *(-getattr(errno, name) for name in _CONNECTION_ERRORS)})
"""FFmpeg's errors of HTTP and of the connection that no file can cause (libavutil/error.h).

The others are ambiguous: an early end or an input/output error is what a lost connection and a truncated file give, and
other statuses of HTTP (4XX) may be the answer to a range that the file refers to.
"""
SERVED_SECONDS = 5.0
"""How soon S3 must serve the first bytes of an object for a probe's timeout to count against the file."""
MAX_OUTPUT_BYTES = 256 * 1024
MAX_MEMORY_BYTES = 1024**3
CONCURRENCY = 4
"""The number of probes that run at a time in one process of the broker."""
_FACTS = (
    "stream=codec_type,codec_name,width,height,sample_aspect_ratio,duration:stream_disposition=attached_pic"
    ":stream_side_data=rotation:stream_tags=rotate:format=duration"
)


class Probe:
    """Run ffprobe on objects of the bucket. The constructor raises SettingsInvalid if the program is missing."""

    def __init__(self, program: str, *, timeout_seconds: float) -> None:
        path = shutil.which(program)
        if path is None:
            raise SettingsInvalid(
                problems=f"BROKER_PROBE: needs ffprobe (Debian: ffmpeg), and there is no program {program!r}"
            )
        self.timeout_seconds = timeout_seconds
        self._program = path
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def inspect(self, sign: Callable[[], Awaitable[SignedRead]]) -> Video | None:
        """Return the facts of the video that a signed request reads, or None if it is not a video.

        `sign` is called once a slot is free, because a signature expires. Raises StorageUnavailable if S3 does not
        serve the object, and ProbeFailed if the probe takes too much time, memory or output although S3 serves it.
        """
        async with self._slots:
            read = await sign()
            try:
                async with asyncio.timeout(self.timeout_seconds):
                    return await self._seen(read)
            except TimeoutError:
                # The first signature may have expired by now.
                if not await self._is_served_soon(await sign()):
                    raise StorageUnavailable(operation="get_object", cause="TimeoutError") from None
                raise ProbeFailed(cause="it took too long") from None

    async def _seen(self, read: SignedRead) -> Video | None:
        video = _video(await self._facts(read))
        if video is None or video.seconds is not None:
            return video
        # A browser's recording names no duration, so its packets are read up to the last one.
        return replace(video, seconds=await self._last_instant(read))

    async def _facts(self, read: SignedRead) -> dict[str, Any]:
        async with self._running(read, "-show_error", "-show_entries", _FACTS, "-of", "json") as process:
            output = b""
            while chunk := await _output(process).read(MAX_OUTPUT_BYTES):
                output += chunk
                if len(output) > MAX_OUTPUT_BYTES:
                    raise ProbeFailed(cause="its output is too long")
            status = await process.wait()
        try:
            facts: dict[str, Any] = json.loads(output)
        except ValueError:
            raise ProbeFailed(cause=f"it ended with status {status}") from None
        error = facts.get("error")
        if status != 0 and error is None:
            raise ProbeFailed(cause=f"it ended with status {status}")
        if error is not None and error["code"] not in NOT_A_VIDEO:
            if error["code"] in S3_UNAVAILABLE or not await self._is_served(read):
                raise StorageUnavailable(operation="get_object", cause=error["string"])
            raise ProbeFailed(cause=error["string"])
        return facts

    async def _is_served(self, read: SignedRead) -> bool:
        """Return whether S3 serves the object, whose bytes are not parsed here: then an error is one of the file."""
        async with self._running(read, "-f", "data", "-probesize", "32", formats="data") as process:
            return await process.wait() == 0

    async def _is_served_soon(self, read: SignedRead) -> bool:
        """Return whether S3 serves the object within SERVED_SECONDS."""
        try:
            async with asyncio.timeout(SERVED_SECONDS):
                return await self._is_served(read)
        except TimeoutError:
            return False

    async def _last_instant(self, read: SignedRead) -> float | None:
        """Return the end of the last video packet, in seconds. Memory stays bounded for any number of packets."""
        last = None
        arguments = ("-select_streams", "v:0", "-show_entries", "packet=pts_time,duration_time", "-of", "csv=p=0")
        async with self._running(read, *arguments) as process:
            async for line in _output(process):
                numbers = [number for number in map(_number, line.decode().split(",")) if number is not None]
                if numbers:
                    last = max(last or 0.0, sum(numbers))
            status = await process.wait()
        if status != 0:
            cause = "its packets could not be read"
            if not await self._is_served(read):
                raise StorageUnavailable(operation="get_object", cause=cause)
            raise ProbeFailed(cause=cause)
        return last

    @asynccontextmanager
    async def _running(
        self, read: SignedRead, *arguments: str, formats: str = FORMATS
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run ffprobe, and end it with the body of the `with`."""
        encrypted = read.url.startswith("https:")
        process = await asyncio.create_subprocess_exec(
            *(self._program, "-v", "quiet"),
            *("-protocol_whitelist", "https,tls,tcp" if encrypted else "http,tcp"),
            *(("-tls_verify", "1") if encrypted else ()),
            *("-format_whitelist", formats),
            *("-headers", "".join(f"{name}: {value}\r\n" for name, value in read.headers.items())),
            *arguments,
            *("-i", read.url),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
        )
        with suppress(AttributeError, ProcessLookupError):  # only Linux has prlimit; the process may have ended
            resource.prlimit(process.pid, resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
        try:
            yield process
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


def _output(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    if process.stdout is None:
        raise AssertionError("the output was piped")
    return process.stdout


def _video(facts: Mapping[str, Any]) -> Video | None:
    """Return the first video stream of ffprobe's answer; the cover picture of an audio file is not one."""
    streams = [
        stream
        for stream in facts.get("streams", ())
        if stream.get("codec_type") == "video" and not stream.get("disposition", {}).get("attached_pic")
    ]
    if not streams or not streams[0].get("codec_name"):
        return None
    durations = [facts.get("format", {}).get("duration"), *(stream.get("duration") for stream in facts["streams"])]
    seconds = [number for number in map(_number, durations) if number]
    first = streams[0]
    return Video(max(seconds, default=None), first["codec_name"], *_displayed(first))


def _displayed(stream: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the displayed width and height of a video stream, or None for both if it does not name them."""
    width, height = stream.get("width"), stream.get("height")
    if not width or not height:
        return None, None
    rotations = [data["rotation"] for data in stream.get("side_data_list", ()) if "rotation" in data]
    # Before FFmpeg 5 the rotation was a tag, as text.
    rotation = _number(rotations[0] if rotations else stream.get("tags", {}).get("rotate"))
    pixel_shape = stream.get("sample_aspect_ratio", "1:1")
    return displayed_size(width, height, pixel_shape=pixel_shape, rotation=rotation or 0) or (None, None)


def _number(value: str | float | None) -> float | None:
    """Return a finite number, or None: an upload may also name `nan` and `inf`."""
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
