"""The rules for uploads, the keys of objects, and the comparison of an upload with its promise."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.ids import new_id
from broker.domain.keys import (
    current_key,
    every_final_key,
    final_key,
    lost_keys,
    media_id_of,
    part_key,
    part_number_of,
    parts_prefix,
    staging_key,
)
from broker.domain.media import Arrived, Media, Video
from broker.domain.origin import origin
from broker.domain.rules import Rules, differences, is_active, media_type, video_differences
from broker.domain.video_types import DEFAULT_TYPES, EXTENSIONS, VIDEO_TYPES, type_of_file
from broker.errors import (
    DurationNotAllowed,
    MetadataTooLarge,
    RedirectNotAllowed,
    SizeNotAllowed,
    TypeNotAllowed,
)

RULES = Rules(max_size=1000, max_duration_seconds=60, redirect_origins=("https://app.example", "http://localhost:8080"))

TYPES = [
    ("video/mp4", "video/mp4"),
    ("Video/MP4", "video/mp4"),
    ("video/webm;codecs=vp9", "video/webm"),
    (' video/webm ; codecs="vp9, opus"', "video/webm"),
]


@pytest.mark.parametrize(("content_type", "bare"), TYPES)
def test_a_type_is_accepted_without_its_parameters_and_case(content_type: str, bare: str) -> None:
    assert RULES.check_type(content_type) == bare
    assert media_type(content_type) == bare


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("video/matroska", "video/x-matroska"),
        ("Video/Matroska;codecs=av1", "video/x-matroska"),
        ("video/vnd.avi", "video/x-msvideo"),
        ("video/avi", "video/x-msvideo"),
        ("video/msvideo", "video/x-msvideo"),
        ("application/mp4", "video/mp4"),
        ("video/vnd.dlna.mpeg-tts", "video/mp2t"),
        ("video/mp2ts", "video/mp2t"),
        *((other, row.name) for row in VIDEO_TYPES for other in row.other_names),
    ],
)
def test_another_name_of_a_type_is_accepted_as_the_usual_one(name: str, usual: str) -> None:
    assert RULES.check_type(name) == usual


def test_another_name_of_a_type_is_kept_if_it_is_accepted_itself() -> None:
    assert Rules(types=("video/matroska",)).check_type("video/matroska") == "video/matroska"
    with pytest.raises(TypeNotAllowed, match="'video/matroska' is not allowed; allowed are video/mp4"):
        Rules(types=("video/mp4",)).check_type("video/matroska")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("x.mts", "video/mp2t"), ("IMG_1.MOV", "video/quicktime"), ("a.b.mkv", "video/x-matroska"), ("mp4", "video/mp4")],
)
def test_the_extension_of_a_file_gives_its_type(name: str, content_type: str) -> None:
    assert type_of_file(name) == content_type
    assert type_of_file("notes.txt") is None


def test_no_name_or_extension_stands_for_two_types() -> None:
    names = [name for row in VIDEO_TYPES for name in (row.name, *row.other_names)]
    extensions = [extension for row in VIDEO_TYPES for extension in row.extensions]
    assert len(names) == len(set(names))
    assert len(extensions) == len(set(extensions))


@pytest.mark.parametrize("content_type", DEFAULT_TYPES)
def test_each_default_type_has_an_extension_of_its_own(content_type: str) -> None:
    assert RULES.check_type(content_type) == content_type
    assert list(EXTENSIONS.values()).count(EXTENSIONS[content_type]) == 1


@pytest.mark.parametrize(
    "content_type", ["", ";", "video", "video/", "image/png", "text/html", "video/mp4x", "video/*", "x;video/mp4"]
)
def test_any_other_type_is_refused_with_the_accepted_ones(content_type: str) -> None:
    with pytest.raises(TypeNotAllowed, match="allowed are video/mp4, video/webm"):
        RULES.check_type(content_type)


@pytest.mark.parametrize("size", [None, 1, 999, 1000])
def test_a_size_within_the_bounds_is_accepted(size: int | None) -> None:
    RULES.check_size(size)


@pytest.mark.parametrize("size", [-1, 0, 1001, 2**63])
def test_a_size_beyond_the_bounds_is_refused(size: int) -> None:
    with pytest.raises(SizeNotAllowed, match=f"The size of {size} bytes is not allowed; allowed are 1 to 1000 bytes"):
        RULES.check_size(size)


@pytest.mark.parametrize("seconds", [None, 0, 0.5, 60])
def test_a_duration_within_the_bounds_is_accepted(seconds: float | None) -> None:
    RULES.check_duration(seconds)


@pytest.mark.parametrize("seconds", [-0.1, 60.001, float("inf"), float("nan")])
def test_a_duration_beyond_the_bounds_is_refused(seconds: float) -> None:
    with pytest.raises(DurationNotAllowed, match="at most 60 seconds"):
        RULES.check_duration(seconds)


METADATA = [
    ("none", {}, True),
    ("just 2 KB", {"a": "x" * 2039}, True),
    ("a byte more", {"a": "x" * 2040}, False),
    ("counted as UTF-8, not as characters", {"a": "é" * 1020}, False),
    ("counted with quotes escaped", {"a": '"' * 1020}, False),
    ("many small ones", {f"key{number:03}": "value" for number in range(200)}, False),
]


@pytest.mark.parametrize(("metadata", "fits"), [row[1:] for row in METADATA], ids=[row[0] for row in METADATA])
def test_metadata_may_be_2_kb_long(metadata: dict[str, str], fits: bool) -> None:
    if fits:
        RULES.check_metadata(metadata)
    else:
        with pytest.raises(MetadataTooLarge, match="at most 2048") as refused:
            RULES.check_metadata(metadata)
        assert refused.value.facts["size"] == len(json.dumps(metadata, ensure_ascii=False).encode())


ORIGINS = [
    ("https://app.example", "https://app.example"),
    ("https://app.example/", "https://app.example"),
    ("HTTPS://App.Example:443/path?q#f", "https://app.example"),
    ("http://app.example:80", "http://app.example"),
    ("http://app.example:443", "http://app.example:443"),
    ("https://app.example:8443/x", "https://app.example:8443"),
    ("http://[::1]:8080/x", "http://[::1]:8080"),
    ("https://app.example@evil.example/", None),
    ("https://user:pass@app.example/", None),
    ("javascript:alert(1)", None),
    ("ftp://app.example/", None),
    ("//app.example/", None),
    ("/path", None),
    ("https://", None),
    ("https://app.example:port/", None),
    ("https://app.example:99999/", None),
    ("https://[::1/", None),
    ("", None),
]


@pytest.mark.parametrize(("url", "expected"), ORIGINS)
def test_the_origin_of_a_url_is_found(url: str, expected: str | None) -> None:
    assert origin(url) == expected


@pytest.mark.parametrize(
    "url", [None, "https://app.example/done?x=1", "http://localhost:8080/", "https://APP.example:443"]
)
def test_a_redirect_to_a_configured_origin_is_accepted(url: str | None) -> None:
    RULES.check_redirect(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://app.example/",
        "https://app.example:8443/",
        "https://app.example.evil.example/",
        "https://evil.example/?https://app.example",
        "https://app.example@evil.example/",
        "https://app.example\\@evil.example/",
        "https:\\\\app.example/",
        "javascript://app.example/%0aalert(1)",
        "/done",
        "",
    ],
)
def test_a_redirect_to_another_origin_is_refused(url: str) -> None:
    with pytest.raises(RedirectNotAllowed, match=r"allowed are https://app\.example, http://localhost:8080"):
        RULES.check_redirect(url)


def test_without_configured_origins_every_redirect_is_refused() -> None:
    for url in ("https://app.example/", "/", ""):
        with pytest.raises(RedirectNotAllowed, match=r"allowed are none \(no origin is configured\)"):
            Rules().check_redirect(url)


ID = UUID("019b7d2f-1c00-7abc-8def-0123456789fe")

KEYS = [
    ("video/mp4", 1, "media/fe/2026/01/02/019b7d2f-1c00-7abc-8def-0123456789fe-1.mp4"),
    ("video/quicktime", 12, "media/fe/2026/01/02/019b7d2f-1c00-7abc-8def-0123456789fe-12.mov"),
    ("video/x-unheard-of", 2, "media/fe/2026/01/02/019b7d2f-1c00-7abc-8def-0123456789fe-2.bin"),
    ("video/mp4", 0, "media/fe/2026/01/02/019b7d2f-1c00-7abc-8def-0123456789fe.mp4"),
]


@pytest.mark.parametrize(("content_type", "attempt", "key"), KEYS)
def test_a_final_key_follows_from_the_id_the_type_and_the_attempt(content_type: str, attempt: int, key: str) -> None:
    assert final_key(ID, content_type, attempt) == key


def test_only_the_latest_attempt_has_a_key_that_may_be_ready() -> None:
    media = MEDIA._replace(attempt=3)
    assert current_key(media) == final_key(ID, "video/mp4", 3)
    assert lost_keys(media) == [final_key(ID, "video/mp4", attempt) for attempt in (1, 2)]
    assert every_final_key(media) == [final_key(ID, "video/mp4", attempt) for attempt in (0, 1, 2, 3)]


def test_a_staging_key_follows_from_the_id() -> None:
    assert staging_key(ID) == "staging/fe/019b7d2f-1c00-7abc-8def-0123456789fe"


def test_the_id_of_a_staging_key_is_found() -> None:
    assert media_id_of(staging_key(ID)) == ID


@pytest.mark.parametrize("number", [1, 10_000])
def test_the_id_and_the_number_of_a_parts_key_are_found(number: int) -> None:
    key = part_key(ID, number)
    assert key == f"staging/fe/{ID}/{number:05}"
    assert key.startswith(parts_prefix(ID))
    assert (media_id_of(key), part_number_of(key)) == (ID, number)
    assert part_number_of(staging_key(ID)) is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        str(ID),
        f"staging/{ID}",
        f"staging/00/{ID}",
        f"staging/fe/{ID}/1",
        f"staging/fe/{ID}/0000x",
        f"staging/fe/{ID}/0000\u0661",
        f"staging/fe/{ID}/00001/00001",
        f"staging/00/{ID}/00001",
        f"staging/fe/{ID.hex}",
        f"staging/fe/{str(ID).upper()}",
        f"other/staging/fe/{ID}",
        final_key(ID, "video/mp4", 1),
        "staging/fe/readme.txt",
    ],
)
def test_no_other_key_has_an_id(key: str) -> None:
    assert media_id_of(key) is None


VIDEOS = [
    ("no video", None, "it is not a video"),
    ("an unknown duration", Video(None, "h264", 320, 180), "its duration cannot be determined"),
    ("the longest", Video(60.0, "h264", 320, 180), ""),
    ("too long", Video(60.06, "h264", 320, 180), "the duration is 60.1 seconds, over 60"),
]


@pytest.mark.parametrize(("video", "difference"), [row[1:] for row in VIDEOS], ids=[row[0] for row in VIDEOS])
def test_a_video_may_be_as_long_as_the_rules_allow(video: Video | None, difference: str) -> None:
    assert video_differences(video, 60) == difference


@pytest.mark.parametrize(
    ("content_type", "active"),
    [("image/svg+xml", True), ("application/atom+xml", True), ("text/html", True), ("video/mp4", False)],
)
def test_content_that_a_browser_executes_is_active(content_type: str, active: bool) -> None:
    assert is_active(content_type) is active


@given(st.text())
def test_no_key_holds_user_input(content_type: str) -> None:
    assert final_key(ID, content_type, 1).startswith("media/fe/2026/01/02/019b7d2f-1c00-7abc-8def-0123456789fe-1.")
    assert final_key(ID, content_type, 1).rpartition(".")[2] in {*EXTENSIONS.values(), "bin"}


def test_keys_of_one_instant_spread_over_256_prefixes() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    assert len({staging_key(new_id(now)).split("/")[1] for _ in range(5000)}) == 256


SHA256 = base64.b64encode(hashlib.sha256(b"video").digest()).decode()
MEDIA = Media(
    id=ID,
    owner="ada",
    content_type="video/mp4",
    max_size=1000,
    created_at=datetime(2026, 1, 2, tzinfo=UTC),
    policy_expires_at=datetime(2026, 1, 2, tzinfo=UTC),
)
EXACT = MEDIA._replace(promised_size=7)
CHECKED = MEDIA._replace(promised_sha256=SHA256)

ARRIVALS = [
    ("any size up to the limit", MEDIA, Arrived(1000, "e", "video/mp4"), ""),
    ("the type with parameters", MEDIA, Arrived(1, "e", "Video/MP4; codecs=avc1"), ""),
    ("nothing in it", MEDIA, Arrived(0, "e", "video/mp4"), "the size is 0 bytes, not 1 to 1000"),
    ("too large", MEDIA, Arrived(1001, "e", "video/mp4"), "the size is 1001 bytes, not 1 to 1000"),
    ("the exact size", EXACT, Arrived(7, "e", "video/mp4"), ""),
    ("another size", EXACT, Arrived(8, "e", "video/mp4"), "the size is 8 bytes, not 7"),
    ("another type", MEDIA, Arrived(1, "e", "text/html"), "the type is 'text/html', not 'video/mp4'"),
    ("the checksum", CHECKED, Arrived(1, "e", "video/mp4", f"SHA256:{SHA256}"), ""),
    (
        "another checksum",
        CHECKED,
        Arrived(1, "e", "video/mp4", "SHA256:x"),
        "the SHA-256 checksum is not the promised one",
    ),
    ("no checksum", CHECKED, Arrived(1, "e", "video/mp4"), "the SHA-256 checksum is not the promised one"),
    ("one not asked for", MEDIA, Arrived(1, "e", "video/mp4", "CRC64NVME:x"), ""),
    (
        "all that can differ",
        EXACT._replace(promised_sha256=SHA256),
        Arrived(8, "e", "text/html"),
        "the size is 8 bytes, not 7; the type is 'text/html', not 'video/mp4'; "
        "the SHA-256 checksum is not the promised one",
    ),
]


@pytest.mark.parametrize(
    ("media", "arrived", "expected"), [row[1:] for row in ARRIVALS], ids=[row[0] for row in ARRIVALS]
)
def test_an_upload_is_compared_with_its_promise(media: Media, arrived: Arrived, expected: str) -> None:
    assert differences(media, arrived) == expected
