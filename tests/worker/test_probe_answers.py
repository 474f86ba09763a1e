"""The answers of ffprobe, given by a script in its place: what it is asked, and what each answer means."""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.domain.media import Video
from broker.domain.s3.sigv4 import SignedRead
from broker.errors import ProbeFailed, StorageUnavailable
from broker.lifecycle import probe as probing
from broker.lifecycle.probe import FORMATS, MAX_OUTPUT_BYTES, NOT_A_VIDEO, S3_UNAVAILABLE, Probe

PICTURE = {"codec_type": "video", "codec_name": "h264", "width": 320, "height": 180}
FACTS: dict[str, Any] = {"streams": [PICTURE], "format": {"duration": "2.5"}}
SEEN = Video(2.5, "h264", 320, 180)
LIVE: dict[str, Any] = {"streams": [PICTURE]}
SCRIPT = """#!{python} -SE
import json, os, sys
if "data" in sys.argv:
    os._exit(sys.argv[-6:-2] != ["-f", "data", "-probesize", "32"] or {data_status})
is_second = "-select_streams" in sys.argv
os.environ.pop("LC_CTYPE", None)  # which Python sets itself
sys.stdout.write({packets} if is_second else {facts})
sys.stdout.flush()
os._exit({packets_status} if is_second else {status})
"""
URL, SECURE_URL = "http://s3.example/a?b=c", "https://s3.example/a?b=c"
ENTRIES = (
    "stream=codec_type,codec_name,width,height,sample_aspect_ratio,duration:stream_disposition=attached_pic"
    ":stream_side_data=rotation:stream_tags=rotate:format=duration"
)
Script = Callable[..., Probe]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Return a function that returns a probe whose program answers with these expressions and statuses."""

    def make(
        facts: str,
        status: int = 0,
        packets: str = "''",
        packets_status: int = 0,
        data_status: int = 0,
        seconds: float = 20,
    ) -> Probe:
        path = tmp_path / "ffprobe"
        answers = {"facts": facts, "status": status, "packets": packets, "packets_status": packets_status}
        answers["data_status"] = data_status
        path.write_text(SCRIPT.format(python=sys.executable, **answers))
        path.chmod(0o700)
        return Probe(str(path), timeout_seconds=seconds)

    return make


async def asked(probe: Probe, url: str = URL) -> Video | None:
    async def sign() -> SignedRead:
        return SignedRead(url, {"if-match": '"abc"', "authorization": "AWS4 abc"})

    return await probe.inspect(sign)


@pytest.mark.parametrize(
    ("url", "protocols"),
    [(URL, ["http,tcp"]), (SECURE_URL, ["https,tls,tcp", "-tls_verify", "1"])],
)
async def test_the_program_is_told_one_address_one_object_and_what_it_may_read(
    script: Script, url: str, protocols: list[str]
) -> None:
    before = ["-v", "quiet", "-protocol_whitelist", *protocols, "-format_whitelist", FORMATS]
    before += ["-headers", 'if-match: "abc"\r\nauthorization: AWS4 abc\r\n']
    first = [*before, "-show_error", "-show_entries", ENTRIES, "-of", "json", "-i", url]
    second = [*before, "-select_streams", "v:0", "-show_entries", "packet=pts_time,duration_time"]
    second += ["-of", "csv=p=0", "-i", url]
    told = "[sys.argv[1:], [*os.environ], sys.stdin.read()]"
    expected = [[arguments, [], ""] for arguments in (first, second)]
    facts = f"{json.dumps(LIVE)!r} if {told} == {expected[0]!r} else repr({told})"
    packets = f"'1.0,0.5' if {told} == {expected[1]!r} else repr({told})"
    assert await asked(script(facts, packets=packets), url) == Video(1.5, "h264", 320, 180)


def error(code: int) -> str:
    return repr(json.dumps({"error": {"code": code, "string": "Server returned 403 Forbidden"}}))


@pytest.mark.parametrize("code", sorted(NOT_A_VIDEO))
async def test_an_error_about_the_file_is_a_verdict(script: Script, code: int) -> None:
    assert await asked(script(error(code), status=1)) is None


@pytest.mark.parametrize("code", sorted(S3_UNAVAILABLE))
async def test_an_error_of_http_or_of_the_connection_is_one_of_s3(script: Script, code: int) -> None:
    with pytest.raises(StorageUnavailable) as unavailable:
        await asked(script(error(code), status=1))
    assert unavailable.value.facts == {"operation": "get_object", "cause": "Server returned 403 Forbidden"}


def test_the_errors_of_s3_are_those_of_ffmpeg() -> None:
    http = {-808465656, -825242872, -858797304, -875574520, -959591672, -1482175992}
    refused, reset = -111, -104
    assert {*http, refused, reset} < S3_UNAVAILABLE


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(-1163346256, id="not implemented"),
        pytest.param(-541478725, id="end of file"),
        pytest.param(-5, id="input/output error"),
        pytest.param(-1482175736, id="another 4XX"),
        pytest.param(-1, id="not permitted"),
    ],
)
async def test_another_error_is_one_of_the_file_if_s3_serves_it(script: Script, code: int) -> None:
    with pytest.raises(ProbeFailed) as failed:
        await asked(script(error(code), status=1))
    assert failed.value.facts == {"cause": "Server returned 403 Forbidden"}
    with pytest.raises(StorageUnavailable):
        await asked(script(error(code), status=1, data_status=1))


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        ({"facts": "'no JSON'", "status": 3}, "it ended with status 3"),
        ({"facts": "'{}'", "status": 1}, "it ended with status 1"),
        ({"facts": f"'x' * {MAX_OUTPUT_BYTES + 1}"}, "its output is too long"),
        ({"facts": repr(json.dumps(LIVE)), "packets_status": 1}, "its packets could not be read"),
        ({"facts": "__import__('time').sleep(60)", "seconds": 0.3}, "it took too long"),
    ],
)
async def test_a_probe_that_fails_says_why(script: Script, answers: dict[str, Any], cause: str) -> None:
    with pytest.raises(ProbeFailed) as failed:
        await asked(script(**answers))
    assert failed.value.facts == {"cause": cause}


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        ({"facts": repr(json.dumps(LIVE)), "packets_status": 1, "data_status": 1}, "its packets could not be read"),
        ({"facts": "__import__('time').sleep(60)", "seconds": 0.3, "data_status": 1}, "TimeoutError"),
    ],
)
async def test_a_probe_that_fails_while_s3_does_not_serve_the_object_blames_s3(
    script: Script, answers: dict[str, Any], cause: str
) -> None:
    with pytest.raises(StorageUnavailable) as unavailable:
        await asked(script(**answers))
    assert unavailable.value.facts == {"operation": "get_object", "cause": cause}


async def test_a_wait_for_credentials_takes_no_time_from_the_probe(script: Script) -> None:
    probe = script(repr(json.dumps(FACTS)), seconds=0.05)

    async def sign() -> SignedRead:
        await asyncio.sleep(0.2)
        probe.timeout_seconds = 20
        return SignedRead(URL, {})

    assert await probe.inspect(sign) == SEEN


async def test_the_longest_output_is_read(script: Script) -> None:
    facts = repr(json.dumps(FACTS))
    assert await asked(script(f"{facts}.ljust({MAX_OUTPUT_BYTES})")) == SEEN


@pytest.mark.parametrize(
    ("packets", "seconds"),
    [
        ("", None),
        ("N/A,N/A\n", None),
        ("0.0,0.5\n1.0,0.5\n", 1.5),
        ("1.0,0.5\n0.2,0.5\nN/A,N/A\n", 1.5),
        ("1.0\n", 1.0),
        ("N/A,0.25\n", 0.25),
        ("-1.0,0.5\n", 0.0),
    ],
)
async def test_without_a_duration_the_last_packet_tells_the_end(
    script: Script, packets: str, seconds: float | None
) -> None:
    assert await asked(script(repr(json.dumps(LIVE)), packets=repr(packets))) == replace(SEEN, seconds=seconds)


COVER = {**PICTURE, "codec_name": "png", "disposition": {"attached_pic": 1}}
SOUND = {"codec_type": "audio", "codec_name": "aac", "duration": "3.5"}


@pytest.mark.parametrize(
    ("facts", "video"),
    [
        ({}, None),
        ({"streams": [SOUND, COVER]}, None),
        ({"streams": [{"codec_type": "video"}]}, None),
        ({"streams": [{"codec_name": "h264"}]}, None),
        ({"streams": [{"codec_type": "video", "codec_name": ""}]}, None),
        (FACTS, SEEN),
        (LIVE, replace(SEEN, seconds=None)),
        ({"streams": [COVER, {**PICTURE, "disposition": {"attached_pic": 0}}]}, replace(SEEN, seconds=None)),
        ({"streams": [PICTURE, SOUND], "format": {"duration": "2.5"}}, replace(SEEN, seconds=3.5)),
        ({"streams": [PICTURE, SOUND], "format": {"duration": "N/A"}}, replace(SEEN, seconds=3.5)),
        ({"streams": [PICTURE], "format": {"duration": "0.000"}}, replace(SEEN, seconds=None)),
        ({"streams": [{**PICTURE, "width": 0}]}, Video(None, "h264", None, None)),
        ({"streams": [{"codec_type": "video", "codec_name": "h264", "width": 320}]}, Video(None, "h264", None, None)),
        ({"streams": [{**PICTURE, "sample_aspect_ratio": "2:1"}]}, Video(None, "h264", 640, 180)),
        ({"streams": [{**PICTURE, "side_data_list": [{}, {"rotation": -90}]}]}, Video(None, "h264", 180, 320)),
        ({"streams": [{**PICTURE, "side_data_list": [{}], "tags": {"rotate": "90"}}]}, Video(None, "h264", 180, 320)),
        ({"streams": [{**PICTURE, "tags": {"rotate": "nan"}}]}, replace(SEEN, seconds=None)),
        ({"streams": [{**PICTURE, "tags": {"rotate": "-inf"}}]}, replace(SEEN, seconds=None)),
        ({"streams": [{**PICTURE, "side_data_list": [{"rotation": float("nan")}]}]}, replace(SEEN, seconds=None)),
        ({"streams": [{**PICTURE, "duration": "inf"}], "format": {"duration": "nan"}}, replace(SEEN, seconds=None)),
        ({"streams": [{**PICTURE, "sample_aspect_ratio": "1966050000:1"}]}, Video(None, "h264", None, None)),
        (
            {"streams": [{**PICTURE, "side_data_list": [{"rotation": 0}], "tags": {"rotate": "90"}}]},
            replace(SEEN, seconds=None),
        ),
    ],
    ids=str,
)
def test_the_facts_of_the_first_picture_are_those_of_the_video(facts: dict[str, Any], video: Video | None) -> None:
    assert probing._video(facts) == video
