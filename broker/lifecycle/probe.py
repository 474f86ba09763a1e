"""Look into a staged video with ffprobe: a child process that fetches from S3, by itself, the ranges it needs.

What a stranger uploaded is read by a program of a hundred formats. So it gets an empty environment, the protocols of
one address, the formats of video files alone (none that names further addresses, as playlists do), and bounds on its
time, memory and output. Source: ffprobe documentation, "Protocol Options" and "Format Options".
"""

import asyncio
import json
import resource
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from broker.domain.media import Video
from broker.errors import ProbeFailed, SettingsInvalid, StorageUnavailable

FORMATS = "mov,mp4,matroska,webm,mpeg,mpegts,ogg,avi,flv,asf"
NOT_A_VIDEO = frozenset({-1094995529, -541478725, -1296385272, -22})
"""FFmpeg's errors for invalid data, an early end, no format, and a format that is not allowed (libavutil/error.h)."""
MAX_OUTPUT_BYTES = 256 * 1024
MAX_MEMORY_BYTES = 1024**3
AT_A_TIME = 4
"""How many run in one process of the broker."""
_FACTS = "stream=codec_type,codec_name,width,height,duration:stream_disposition=attached_pic:format=duration"


class Probe:
    """Run ffprobe on addresses of the bucket. Raises SettingsInvalid at once where the machine has no such program."""

    def __init__(self, program: str, *, timeout_seconds: float) -> None:
        found = shutil.which(program)
        if found is None:
            raise SettingsInvalid(
                problems=f"BROKER_PROBE: needs ffprobe (Debian: ffmpeg), and there is no program {program!r}"
            )
        self.timeout_seconds = timeout_seconds
        self._program = found
        self._slots = asyncio.Semaphore(AT_A_TIME)

    async def look(self, link: Callable[[], Awaitable[str]], etag: str) -> Video | None:
        """Return what the object behind a link holds, while it has that ETag; None where it is no video.

        `link` signs it once there is a free slot, since it lives for no longer than one look may take. Raises
        StorageUnavailable where S3 does not hand it out, and ProbeFailed where looking takes too long or too much.
        """
        async with self._slots:
            try:
                async with asyncio.timeout(self.timeout_seconds):
                    url = await link()
                    facts = await self._facts(url, etag)
                    video = _video(facts)
                    if video is not None and video.seconds is None:
                        # A browser's recording names no duration: its packets are read to the last one.
                        seconds = await self._last_instant(url, etag)
                        video = Video(seconds, video.codec, video.width, video.height)
                    return video
            except TimeoutError:
                raise ProbeFailed(cause="it took too long") from None

    async def _facts(self, url: str, etag: str) -> dict[str, Any]:
        async with self._running(url, etag, "-show_error", "-show_entries", _FACTS, "-of", "json") as process:
            output = b""
            while more := await _output(process).read(MAX_OUTPUT_BYTES):
                output += more
                if len(output) > MAX_OUTPUT_BYTES:
                    raise ProbeFailed(cause="it told too much")
            status = await process.wait()
        try:
            facts: dict[str, Any] = json.loads(output)
        except ValueError:
            raise ProbeFailed(cause=f"it ended with status {status}") from None
        if "error" in facts and facts["error"].get("code") not in NOT_A_VIDEO:
            raise StorageUnavailable(operation="get_object", cause=str(facts["error"].get("string")))
        if status != 0 and "error" not in facts:
            raise ProbeFailed(cause=f"it ended with status {status}")
        return facts

    async def _last_instant(self, url: str, etag: str) -> float | None:
        """Return when the last packet of the video ends, in seconds; memory stays bounded however many there are."""
        last = None
        asked = ("-select_streams", "v:0", "-show_entries", "packet=pts_time,duration_time", "-of", "csv=p=0")
        async with self._running(url, etag, *asked) as process:
            async for line in _output(process):
                numbers = [number for number in map(_number, line.decode().split(",")) if number is not None]
                if numbers:
                    last = max(last or 0.0, sum(numbers))
            if await process.wait() != 0:
                raise ProbeFailed(cause="its packets could not be read")
        return last

    @asynccontextmanager
    async def _running(self, url: str, etag: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run ffprobe; whatever ends the body of the `with` ends it too."""
        encrypted = url.startswith("https:")
        process = await asyncio.create_subprocess_exec(
            *(self._program, "-v", "quiet"),
            *("-protocol_whitelist", "https,tls,tcp" if encrypted else "http,tcp"),
            *(("-tls_verify", "1") if encrypted else ()),
            *("-format_whitelist", FORMATS),
            *("-headers", f'If-Match: "{etag}"\r\n'),
            *arguments,
            *("-i", url),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
        )
        with suppress(AttributeError, ProcessLookupError):  # Linux alone has prlimit; a quick one has ended already
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
    """Return the first moving picture in ffprobe's words; the picture on an album's cover is none."""
    streams = [
        stream
        for stream in facts.get("streams", ())
        if stream.get("codec_type") == "video" and not stream.get("disposition", {}).get("attached_pic")
    ]
    if not streams or not streams[0].get("codec_name"):
        return None
    told = [facts.get("format", {}).get("duration"), *(stream.get("duration") for stream in facts["streams"])]
    lengths = [length for length in map(_number, told) if length]
    first = streams[0]
    return Video(max(lengths, default=None), first["codec_name"], first.get("width"), first.get("height"))


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
