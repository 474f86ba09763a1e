"""The layout of parts, the digest of a list, and the ETag of a composition."""

import hashlib

import pytest

from broker.domain.parts import (
    MAX_COMPOSED_BYTES,
    MAX_PART_BYTES,
    MAX_PARTS,
    MIB,
    Layout,
    StoredPart,
    as_ranges,
    composed_etag,
    list_digest,
    part_size_for,
)

GB = 10**9
TIB = 1024**4


@pytest.mark.parametrize(
    ("size", "preferred", "part_size", "count"),
    [
        (1, 16 * MIB, 16 * MIB, 1),
        (16 * MIB, 16 * MIB, 16 * MIB, 1),
        (16 * MIB + 1, 16 * MIB, 16 * MIB, 2),
        (1000 * 16 * MIB, 16 * MIB, 16 * MIB, 1000),
        (1000 * 16 * MIB + 1, 16 * MIB, 17 * MIB, 942),
        (50 * GB, 16 * MIB, 48 * MIB, 994),
        (50 * GB, 5 * 1024**3, 5 * 1024**3, 10),
        (1000 * MAX_PART_BYTES, 16 * MIB, MAX_PART_BYTES, 1000),
        (1000 * MAX_PART_BYTES + 1, 16 * MIB, 513 * MIB, 9981),
        (MAX_COMPOSED_BYTES, 16 * MIB, MAX_PART_BYTES, MAX_PARTS),
    ],
)
def test_parts_grow_with_the_file(size: int, preferred: int, part_size: int, count: int) -> None:
    layout = Layout(size, part_size_for(size, preferred))
    assert (layout.part_size, layout.count) == (part_size, count)
    assert isinstance(layout.part_size, int)
    assert (layout.count - 1) * part_size + layout.size_of(layout.count) == size


def test_a_file_over_the_largest_object_has_no_layout() -> None:
    with pytest.raises(ValueError, match="do not fit into 10000 parts"):
        part_size_for(MAX_COMPOSED_BYTES + 1, 16 * MIB)


def stored(*sizes: int) -> list[StoredPart]:
    return [StoredPart(number, size, f"{number:032x}") for number, size in enumerate(sizes, 1)]


def test_missing_parts_and_parts_of_another_size_are_found() -> None:
    layout = Layout(25, 10)
    assert layout.missing([]) == [1, 2, 3]
    assert layout.missing(stored(10)) == [2, 3]
    assert layout.missing(stored(10, 10, 5)) == []
    assert layout.differences(stored(10, 10, 5)) == ""
    assert layout.differences(stored(10, 11)) == "part 2 has 11 bytes, not 10"
    assert layout.differences(stored(10, 10, 10)) == "part 3 has 10 bytes, not 5"


@pytest.mark.parametrize(
    "other",
    [
        [],
        [StoredPart(1, 10, "a")],
        [StoredPart(1, 10, "a"), StoredPart(2, 10, "c")],
        [StoredPart(1, 10, "a"), StoredPart(2, 9, "b")],
        [StoredPart(1, 10, "a"), StoredPart(3, 10, "b")],
    ],
)
def test_the_digest_changes_with_any_part(other: list[StoredPart]) -> None:
    judged = [StoredPart(1, 10, "a"), StoredPart(2, 10, "b")]
    assert list_digest(judged) == list_digest(list(judged))
    assert list_digest(judged) != list_digest(other)


def test_a_composed_etag_is_the_md5_of_the_md5s() -> None:
    digests = [hashlib.md5(part, usedforsecurity=False) for part in (b"one", b"two")]
    expected = hashlib.md5(b"".join(digest.digest() for digest in digests), usedforsecurity=False).hexdigest()
    assert composed_etag([digest.hexdigest() for digest in digests]) == f"{expected}-2"
    opaque = hashlib.md5(b"opaque", usedforsecurity=False).hexdigest()
    assert composed_etag(["opaque"]) == f"{opaque}-1"


@pytest.mark.parametrize(
    ("numbers", "words"),
    [([], ""), ([3], "3"), ([1, 2, 3], "1-3"), ([1, 3, 4, 9], "1, 3-4, 9"), (list(range(1, 60, 2)), "1, 3, …")],
)
def test_numbers_are_named_as_ranges(numbers: list[int], words: str) -> None:
    assert as_ranges(numbers, limit=2 if "…" in words else 20) == words


def test_twenty_ranges_are_named() -> None:
    assert as_ranges(list(range(1, 41, 2))).count(", ") == 19
    assert as_ranges(list(range(1, 43, 2))).endswith("37, 39, …")
