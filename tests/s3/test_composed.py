"""Composed objects, which keep the files of their parts: reads, copies, deletions, descriptors, and old data."""

import os
from pathlib import Path

import httpx
import psutil
import pytest

from broker.dev.s3 import start_embedded_s3
from broker.dev.s3.composed import compose, link_range, open_range
from broker.dev.s3.disk import Disk
from broker.dev.s3.objects import ObjectPart, ObjectStore, ObjectVersion
from tests.support.s3_clients import client_of
from tests.support.waiting import until

MIB = 1024**2
PARTS = [b"abc", b"d", b"efgh", b"ij", b""]
WHOLE = b"".join(PARTS)
MANY = 300
KEY = ("AKIAEMBEDDEDTESTKEY1", "a secret of the tests")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return the data directory of the server."""
    return tmp_path_factory.mktemp("s3")


@pytest.fixture(scope="module")
def server(data):
    """Run an embedded S3 that takes parts of any size."""
    with start_embedded_s3(region="eu-central-1", data_dir=data, part_bytes_min=0, buckets=["films"]) as s3:
        yield s3


@pytest.fixture(scope="module")
def s3(server):
    return client_of(server)


@pytest.fixture(autouse=True)
def emptied(request, data):
    """Delete all objects after a test of the server, which then holds no byte."""
    yield
    if "s3" not in request.fixturenames:
        return
    s3 = request.getfixturevalue("s3")
    for entry in s3.list_objects_v2(Bucket="films").get("Contents", []):
        s3.delete_object(Bucket="films", Key=entry["Key"])
    until(lambda: files(data) == [])


def files(data):
    """Return the files of bytes in a data directory, in the order of their names, while the server changes them."""
    directories = [data / name for name in ("objects", "uploads", "incoming")]
    # os.walk passes over a directory that is removed meanwhile; rglob raises.
    walked = [Path(folder) / name for top in directories for folder, _, names in os.walk(top) for name in names]
    return sorted(file for file in walked if not file.suffix)


def begin(s3, key, sources):
    """Create an upload of parts: bytes, or the arguments of UploadPartCopy. Return what completes it."""
    upload = {"Bucket": "films", "Key": key}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    listed = []
    for number, source in enumerate(sources, 1):
        if isinstance(source, bytes):
            etag = s3.upload_part(**upload, PartNumber=number, Body=source)["ETag"]
        else:
            etag = s3.upload_part_copy(**upload, PartNumber=number, **source)["CopyPartResult"]["ETag"]
        listed.append({"PartNumber": number, "ETag": etag})
    return upload | {"MultipartUpload": {"Parts": listed}}


def composed(s3, key, sources):
    return s3.complete_multipart_upload(**begin(s3, key, sources))


def read(s3, key, **asked):
    return s3.get_object(Bucket="films", Key=key, **asked)["Body"].read()


def url_of(s3, key):
    return s3.generate_presigned_url("get_object", Params={"Bucket": "films", "Key": key})


def test_every_range_is_that_of_the_joined_parts(s3):
    composed(s3, "film", PARTS)
    assert read(s3, "film") == WHOLE
    with httpx.Client() as http:
        url = url_of(s3, "film")
        for first in range(len(WHOLE)):
            for last in range(first, len(WHOLE)):
                answer = http.get(url, headers={"Range": f"bytes={first}-{last}"})
                assert (answer.status_code, answer.content) == (206, WHOLE[first : last + 1])
    assert [read(s3, "film", PartNumber=number) for number in range(1, 6)] == PARTS


@pytest.mark.parametrize("parts", [[b""], [b"", b"a"], [b"a", b"", b"b"], [b"a"]])
def test_an_empty_part_takes_no_place(parts, s3):
    composed(s3, "film", parts)
    assert read(s3, "film") == b"".join(parts)


def test_composing_copies_no_byte(s3, data):
    upload = begin(s3, "film", PARTS)
    before = {file.stat().st_ino for file in files(data) if file.stat().st_size}
    s3.complete_multipart_upload(**upload)
    assert {file.stat().st_ino for file in files(data)} == before
    assert list((data / "uploads").iterdir()) == []


def test_what_was_copied_from_a_composed_object_outlasts_it(s3):
    composed(s3, "film", PARTS)
    source = {"CopySource": "films/film"}
    composed(s3, "longer", [b"<", source, {**source, "CopySourceRange": "bytes=2-8"}, b">"])
    longer = b"<" + WHOLE + WHOLE[2:9] + b">"
    etag = s3.copy_object(Bucket="films", Key="copy", **source)["CopyObjectResult"]["ETag"]
    s3.put_object(Bucket="films", Key="plain", Body=WHOLE)
    assert etag == s3.head_object(Bucket="films", Key="plain")["ETag"]
    s3.delete_object(Bucket="films", Key="film")
    assert (read(s3, "copy"), read(s3, "longer")) == (WHOLE, longer)
    assert read(s3, "longer", Range="bytes=0-4") == longer[:5]
    # A composition of compositions, whose source is replaced before it is completed.
    upload = begin(s3, "longest", [{"CopySource": "films/longer"}, {"CopySource": "films/copy"}])
    s3.put_object(Bucket="films", Key="longer", Body=b"other")
    s3.complete_multipart_upload(**upload)
    assert read(s3, "longest") == longer + WHOLE


def test_a_part_copied_from_a_composed_object_can_be_replaced_and_aborted(s3, data):
    composed(s3, "film", PARTS)
    stored = files(data)
    source = {"CopySource": "films/film"}
    upload = begin(s3, "other", [source])
    upload.pop("MultipartUpload")
    s3.upload_part_copy(**upload, PartNumber=1, **source)
    s3.abort_multipart_upload(**upload)
    assert files(data) == stored
    assert read(s3, "film") == WHOLE


@pytest.mark.parametrize("end", ["deleted", "replaced"])
def test_a_read_goes_on_while_its_composed_object_is_gone(end, s3, data):
    # More than the buffers between the server and its client hold.
    pieces = [os.urandom(2 * MIB) for _ in range(12)]
    composed(s3, "film", pieces)
    with httpx.stream("GET", url_of(s3, "film")) as answer:
        chunks = answer.iter_raw()
        begun = next(chunks)
        if end == "deleted":
            s3.delete_object(Bucket="films", Key="film")
        else:
            s3.put_object(Bucket="films", Key="film", Body=b"")
        assert begun + b"".join(chunks) == b"".join(pieces)


def test_a_read_of_many_parts_opens_one_at_a_time_and_leaves_nothing(s3, server, data):
    pieces = [bytes([number % 256]) * 64 * 1024 for number in range(MANY)]
    composed(s3, "film", pieces)
    process, stored = psutil.Process(server.pid), files(data)
    idle = process.num_fds()
    with httpx.stream("GET", url_of(s3, "film")) as answer:
        assert next(answer.iter_raw())
        assert process.num_fds() - idle <= 2  # the connection, and a part
    # The client has gone away in the middle.
    until(lambda: files(data) == stored)
    assert read(s3, "film") == b"".join(pieces)
    s3.copy_object(Bucket="films", Key="copy", CopySource="films/film")
    until(lambda: process.num_fds() <= idle)


def test_composed_objects_and_parts_outlive_a_restart(tmp_path):
    started = {"data_dir": tmp_path, "credentials": [KEY], "part_bytes_min": 0, "buckets": ["films"]}
    with start_embedded_s3(**started) as server:
        composed(client_of(server), "film", PARTS)
        upload = begin(client_of(server), "twice", [{"CopySource": "films/film"}] * 2)
    with start_embedded_s3(**started) as server:
        client_of(server).complete_multipart_upload(**upload)
        assert (read(client_of(server), "film"), read(client_of(server), "twice")) == (WHOLE, WHOLE * 2)


@pytest.fixture
def parts(tmp_path):
    """Return files of bytes with their sizes, one of which is a composed object itself."""
    for name, content in {"1": b"abc", "2a": b"d", "2b": b"ef", "3": b"", "4": b"g"}.items():
        (tmp_path / name).write_bytes(content)
    compose([(tmp_path / "2a", 1), (tmp_path / "2b", 2)], tmp_path / "2")
    return [(tmp_path / name, size) for name, size in (("1", 3), ("2", 3), ("3", 0), ("4", 1))]


def test_the_files_are_named_by_the_offsets_of_their_bytes(parts, tmp_path):
    compose(parts, tmp_path / "all")
    contents = {int(file.name): file.read_bytes() for file in (tmp_path / "all").iterdir()}
    assert contents == {0: b"abc", 3: b"d", 4: b"ef", 6: b"g"}


@pytest.mark.parametrize(
    ("first", "size", "starts"),
    [
        (0, 7, [0, 3, 4, 6]),
        (0, 3, [0]),
        (2, 2, [0, 3]),
        (3, 1, [3]),
        (4, 1, [4]),
        (5, 2, [4, 6]),
        (6, 9, [6]),
        (0, 0, [0]),
    ],
)
def test_a_range_takes_the_files_that_hold_it(first, size, starts, parts, tmp_path):
    compose(parts, tmp_path / "all")
    link_range(tmp_path / "all", tmp_path / "some", first, size)
    assert sorted(int(file.name) for file in (tmp_path / "some").iterdir()) == starts
    with open_range(tmp_path / "some", first, size) as data:
        assert data.read(size) == b"abcdefg"[first : first + size]


def test_what_is_dropped_unread_leaves_no_links(parts, tmp_path):
    store = ObjectStore(Disk(tmp_path / "data"))
    version = ObjectVersion("film", "null", 1, "2024-01-01T00:00:00+00:00", size=7)
    with store.scratch() as path:
        compose(parts, path)
        store.add("films", version, path, versioned=False)
    data = store.open("films", version, 0, 7)
    assert len(files(tmp_path / "data")) == 8
    del data
    assert len(files(tmp_path / "data")) == 4


def test_an_object_that_an_older_version_composed_is_one_file(tmp_path):
    facts = ObjectVersion(
        "film", "null", 1, "2024-01-01T00:00:00+00:00", size=4, parts=[ObjectPart(1, 3, ""), ObjectPart(2, 1, "")]
    )
    store = ObjectStore(Disk(tmp_path))
    with store.scratch() as path:
        path.write_bytes(b"abcd")
        store.add("films", facts, path, versioned=False)
    assert [file.read_bytes() for file in files(tmp_path)] == [b"abcd"]
    store = ObjectStore(Disk(tmp_path))
    version = store.current("films", "film")
    assert version == facts
    with store.open("films", version, 2, 2) as data:
        store.remove("films", version)
        assert (data.read(2), files(tmp_path)) == (b"cd", [])


def test_bytes_whose_facts_are_missing_are_removed_at_the_next_start(parts, tmp_path):
    root = tmp_path / "data"
    disk = Disk(root)
    store = ObjectStore(disk)
    version = ObjectVersion("film", "null", 1, "2024-01-01T00:00:00+00:00", size=7)
    disk.make_directory(root / "objects" / "films")
    compose(parts, disk.scratch_path())
    with store.scratch() as path:
        compose(parts, path)
        # As if the process had ended between the bytes and the facts.
        disk.move(path, store.path("films", version))
    assert len(files(root)) == 8
    assert ObjectStore(Disk(root)).keys("films") == []
    assert files(root) == []
