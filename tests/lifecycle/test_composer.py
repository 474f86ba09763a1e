"""The composer by itself, over a bucket in memory: what it copies, completes, continues and gives up."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from broker.aws.client import Absent, PreconditionFailed
from broker.aws.multipart import Copied
from broker.clock import utc_now
from broker.domain.keys import current_key, part_key, parts_prefix
from broker.domain.media import Arrived, Media
from broker.domain.parts import StoredPart
from broker.errors import StorageRefused, StorageUnavailable
from broker.lifecycle.leases import HeldLease, LeaseLost, Leases
from broker.lifecycle.resumable.composition import COPIES, MAX_COPIES, Composer
from tests.lifecycle.in_memory import PART, Memory, Rows, composed, etag, parts, promoting

pytestmark = pytest.mark.timeout(10)


class Composing:
    """One composition over a bucket in memory."""

    def __init__(self, media: Media, bucket: Memory | None = None) -> None:
        self.media = media
        self.bucket = bucket or Memory()
        self.bucket.uploads.stored = parts(media.layout.count)
        self.bucket.uploads.composed = composed(media)
        self.store = Rows(self.bucket.calls)
        self.lease = HeldLease(self.store, Leases(utc_now, lambda: 0.0), media)
        self.composer = Composer(self.bucket)

    async def compose(self, staged: list[StoredPart] | None = None) -> Arrived | None:
        return await self.composer.compose(self.lease, staged)

    def copies(self) -> list[int]:
        """Return the numbers of the parts that were copied, in order."""
        return [call[3] for call in self.bucket.calls if call[0] == "copy"]


async def test_the_id_is_recorded_before_the_parts_are_copied_and_completed() -> None:
    media = promoting()
    own = Composing(media)
    assert await own.compose(parts(3)) == composed(media)
    key = current_key(media)
    assert own.bucket.calls == [
        ("create", key, "video/mp4"),
        ("record", {"multipart_id": "new-id"}),
        *(("copy", key, "new-id", number, part_key(media.id, number), etag(number)) for number in (1, 2, 3)),
        ("complete", key, "new-id", etag(1), etag(2), etag(3)),
        ("head", key),
    ]


async def test_a_caller_without_the_list_reads_it_and_ignores_parts_beyond_the_last() -> None:
    media = promoting()
    own = Composing(media)
    own.bucket.uploads.stored = parts(5)
    assert await own.compose() == composed(media)
    assert own.bucket.calls[0] == ("staged", parts_prefix(media.id))
    assert own.copies() == [1, 2, 3]


async def test_a_composition_copies_eight_parts_at_a_time_and_all_together_sixteen() -> None:
    own = Composing(promoting(40))
    own.bucket.uploads.let_go.clear()
    running = [asyncio.create_task(own.composer.compose(own.lease, parts(40)))]
    await asyncio.sleep(0.01)
    assert own.bucket.uploads.under_way == COPIES == 8
    for _ in range(3):
        other = Composing(own.media, own.bucket)
        running.append(asyncio.create_task(own.composer.compose(other.lease, parts(40))))
    await asyncio.sleep(0.01)
    assert own.bucket.uploads.under_way == MAX_COPIES == 16
    own.bucket.uploads.let_go.set()
    await asyncio.gather(*running)
    assert own.bucket.uploads.most_under_way == MAX_COPIES


async def test_a_composed_object_of_an_earlier_lease_holder_is_taken() -> None:
    media = promoting(multipart_id="old-id")
    own = Composing(media)
    own.bucket.objects[current_key(media)] = composed(media)
    own.bucket.uploads.copied_already = None
    assert await own.compose() == composed(media)
    assert own.bucket.calls == [("copied", current_key(media), "old-id"), ("head", current_key(media))]


@pytest.mark.parametrize("differs", [{"size": 16}, {"content_type": "a/b"}, {"etag": "another-3"}], ids=str)
async def test_a_composed_object_that_is_not_the_judged_one_is_replaced_by_another_attempt(
    differs: dict[str, Any],
) -> None:
    media = promoting(multipart_id="old-id")
    own = Composing(media)
    own.bucket.objects[current_key(media)] = composed(media, **differs)
    own.bucket.uploads.copied_already = None
    assert await own.compose() == composed(media)
    assert (own.lease.media.attempt, own.copies()) == (2, [1, 2, 3])


async def test_parts_that_an_earlier_lease_holder_copied_are_not_copied_again() -> None:
    media = promoting(multipart_id="old-id")
    own = Composing(media)
    own.bucket.uploads.copied_already = {1: etag(1), 2: "another"}
    assert await own.compose() == composed(media)
    assert own.copies() == [2, 3]
    key = current_key(media)
    assert own.bucket.calls[0] == ("copied", key, "old-id")
    assert ("complete", key, "old-id", etag(1), etag(2), etag(3)) in own.bucket.calls
    assert "create" not in own.bucket.names()


async def test_an_upload_that_is_gone_without_an_object_is_replaced_by_another_attempt() -> None:
    media = promoting(multipart_id="old-id")
    own = Composing(media)
    own.bucket.uploads.copied_already = None
    assert await own.compose() == composed(media)
    first, second = current_key(media), current_key(media._replace(attempt=2))
    assert own.bucket.calls[:5] == [
        ("copied", first, "old-id"),
        ("head", first),
        ("record", {"attempt": 2, "multipart_id": None}),
        ("staged", parts_prefix(media.id)),
        ("create", second, "video/mp4"),
    ]
    assert (own.copies(), list(own.bucket.objects)) == ([1, 2, 3], [second])


def raising(error: Exception) -> Any:
    def effect(*arguments: Any) -> Any:
        raise error

    return effect


def is_other(number: int) -> Copied:
    return Copied("another" if number == 2 else etag(number), comparable=True)


INVALID_PART = StorageRefused(operation="complete_multipart_upload", code="InvalidPart")
OVERWRITTEN: dict[str, Callable[[Composing], None]] = {
    "a part is gone": lambda own: setattr(own.bucket.uploads, "on_copy", raising(Absent())),
    "a part is another": lambda own: setattr(own.bucket.uploads, "on_copy", raising(PreconditionFailed())),
    "a copy is of another": lambda own: setattr(own.bucket.uploads, "on_copy", is_other),
    "a copied part is another": lambda own: setattr(own.bucket.uploads, "on_complete", raising(INVALID_PART)),
    "no object": lambda own: setattr(own.bucket.uploads, "composed", None),
    "another size": lambda own: setattr(own.bucket.uploads, "composed", composed(own.media, size=16)),
    "another type": lambda own: setattr(own.bucket.uploads, "composed", composed(own.media, content_type="a/b")),
    "another ETag": lambda own: setattr(own.bucket.uploads, "composed", composed(own.media, etag="another-3")),
    "another list": lambda own: setattr(own.bucket.uploads, "stored", [*parts(2), StoredPart(3, PART, etag(9))]),
}


@pytest.mark.parametrize("overwrite", OVERWRITTEN.values(), ids=OVERWRITTEN)
async def test_what_is_no_longer_judged_is_given_up_and_aborted(overwrite: Callable[[Composing], None]) -> None:
    own = Composing(promoting(multipart_id="old-id"))
    overwrite(own)
    assert await own.compose() is None
    assert own.bucket.calls[-2:] == [("record", {}), ("abort", current_key(own.media), "old-id")]


async def test_a_list_that_differs_before_the_first_copy_leaves_nothing_to_abort() -> None:
    own = Composing(promoting())
    own.bucket.uploads.stored = parts(2)
    assert await own.compose() is None
    assert own.bucket.names() == ["staged", "record"]


async def test_a_lost_lease_aborts_nothing_of_its_successor() -> None:
    own = Composing(promoting(multipart_id="old-id"))
    own.bucket.uploads.on_copy = raising(Absent())
    own.store.is_ours = False
    with pytest.raises(LeaseLost):
        await own.compose()
    assert "abort" not in own.bucket.names()


@pytest.mark.parametrize(
    ("copied", "found"),
    [
        (lambda number: Copied("opaque", comparable=False), {"etag": "opaque-3"}),
        (lambda number: Copied(etag(number), comparable=True), {"etag": "opaque-3", "etag_is_md5": False}),
    ],
    ids=["copies that cannot be compared", "an object whose ETag is no MD5"],
)
async def test_an_etag_that_proves_nothing_is_not_compared(
    copied: Callable[[int], Copied], found: dict[str, Any]
) -> None:
    own = Composing(promoting())
    own.bucket.uploads.on_copy = copied
    own.bucket.uploads.composed = composed(own.media, **found)
    assert await own.compose(parts(3)) == composed(own.media, **found)


async def test_one_copy_that_cannot_be_compared_leaves_the_etag_unproven() -> None:
    own = Composing(promoting())
    own.bucket.uploads.on_copy = lambda number: Copied(etag(number), comparable=number != 2)
    own.bucket.uploads.composed = composed(own.media, etag="another-3")
    assert await own.compose(parts(3)) is not None


@pytest.mark.parametrize("error", [Absent(), PreconditionFailed()], ids=repr)
async def test_after_an_unclear_completion_the_object_decides(error: Exception) -> None:
    own = Composing(promoting())
    own.bucket.objects[current_key(own.media)] = composed(own.media)
    own.bucket.uploads.on_complete = raising(error)
    assert await own.compose(parts(3)) == composed(own.media)


@pytest.mark.parametrize(
    "error",
    [
        StorageRefused(operation="complete_multipart_upload", code="AccessDenied"),
        StorageUnavailable(operation="complete_multipart_upload", cause="SlowDown"),
    ],
    ids=["refused", "away"],
)
async def test_a_completion_that_fails_is_left_to_the_next_caller(error: Exception) -> None:
    own = Composing(promoting())
    own.bucket.uploads.on_complete = raising(error)
    with pytest.raises(type(error)):
        await own.compose(parts(3))
    assert own.bucket.names()[-1] == "complete"


async def test_an_upload_whose_id_cannot_be_recorded_is_aborted() -> None:
    own = Composing(promoting())
    own.store.is_ours = False
    with pytest.raises(LeaseLost):
        await own.compose(parts(3))
    assert own.bucket.calls[-1] == ("abort", current_key(own.media), "new-id")
    assert own.copies() == []


async def test_a_copy_that_fails_ends_the_others() -> None:
    own = Composing(promoting(40))
    uploads = own.bucket.uploads

    def fail(number: int) -> Copied:
        if number == 1:
            uploads.let_go.clear()  # the others hang from now on
            raise ZeroDivisionError
        return Copied(etag(number), comparable=True)

    uploads.on_copy = fail
    with pytest.raises(ZeroDivisionError):
        await own.compose(parts(40))
    assert uploads.under_way == 0
    assert len(own.copies()) < 40


async def test_no_part_is_copied_once_the_lease_is_lost() -> None:
    own = Composing(promoting(multipart_id="old-id"))
    own.store.is_ours = False
    with pytest.raises(LeaseLost):
        await own.lease.record()
    with pytest.raises(LeaseLost):
        await own.compose(parts(3))
    assert own.copies() == []
