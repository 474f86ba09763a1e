"""A broker that dies before any step of a resumable upload loses nothing and leaves nothing behind."""

import pytest

from broker.domain.keys import part_key
from broker.domain.media import State
from tests.crash.conftest import World
from tests.crash.courses import (
    AFTER_LEASE,
    OVER,
    Course,
    a_retrying_client_recovers,
    complete,
    complete_overwritten,
    delete,
    sweep,
    sweep_early,
    the_sweep_recovers,
)
from tests.crash.preparations import IN_PARTS, nothing
from tests.support.dying import OTHER

WRONG_CRC = "AAAAAAAAAAA="


def of_another_file(world: World) -> str:
    return IN_PARTS.uploaded(world, checksum_crc64nvme=WRONG_CRC)


def of_another_size(world: World) -> str:
    media_id = IN_PARTS.uploaded(world)
    media = world.find().of(media_id)
    assert media is not None
    world.s3.put_object(Bucket=world.settings["bucket_name"], Key=part_key(media.id, 2), Body=OTHER[:-1])
    return media_id


def issue(world: World, _: str, **steering: str) -> str:
    return str(world.client.issue_in_parts(**steering)["steps"])


def issue_again(world: World, key: str, **steering: str) -> str:
    return str(world.client.issue_in_parts(key=key, **steering)["steps"])


def list_parts(world: World, media_id: str, **steering: str) -> str:
    answer = world.client.parts(media_id, **steering)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-steps"]


CREATED = "list_objects_v2 MATCH create_multipart_upload amend upload_part_copy upload_part_copy"
COMPOSED = f"{CREATED} complete_multipart_upload head_object PROMOTE"
PURGED = "list_multipart_uploads list_objects_v2 delete_objects"
COURSES = {
    "issue": Course(nothing, issue, "add answer"),
    "issue again": Course(IN_PARTS.issued_with_key, issue_again, "add list_objects_v2 answer"),
    "list the parts": Course(IN_PARTS.issued, list_parts, "get list_objects_v2 answer", True),
    "complete": Course(IN_PARTS.uploaded, complete, f"get {COMPOSED} answer", True),
    "complete parts of which one is overwritten meanwhile": Course(
        IN_PARTS.uploaded,
        complete_overwritten,
        f"get {CREATED} abort_multipart_upload OVERWRITE {COMPOSED} answer",
        True,
    ),
    "complete parts of another file": Course(
        of_another_file, complete, f"get {CREATED} complete_multipart_upload head_object DIFFER answer", True
    ),
    "complete a part of another size": Course(of_another_size, complete, "get list_objects_v2 DIFFER answer", True),
    "delete before the upload is completed": Course(IN_PARTS.uploaded, delete, f"get DELETE {PURGED} answer", True),
    "delete a ready media": Course(
        IN_PARTS.ready, delete, "get DELETE list_multipart_uploads delete_objects answer", True
    ),
    "sweep an upload without parts": Course(IN_PARTS.issued, sweep, "claim list_objects_v2 EXPIRE answer"),
    "sweep an upload without a complete": Course(IN_PARTS.uploaded, sweep, f"claim {COMPOSED} answer"),
    "sweep a composition without a multipart upload": Course(
        IN_PARTS.died_before("create_multipart_upload"),
        sweep_early,
        "claim amend list_objects_v2 create_multipart_upload amend complete_multipart_upload PROMOTE answer",
    ),
    "sweep a composition without a complete": Course(
        IN_PARTS.died_before("complete_multipart_upload"),
        sweep_early,
        "claim amend list_parts list_objects_v2 complete_multipart_upload head_object PROMOTE answer",
    ),
    "sweep a completed composition": Course(
        IN_PARTS.died_before("change PROMOTE"), sweep_early, "claim amend list_parts head_object PROMOTE answer"
    ),
    "sweep replayed parts": Course(IN_PARTS.replayed, sweep, f"claim {PURGED} amend answer"),
    "sweep a deletion while policies are open": Course(
        IN_PARTS.deleted_and_replayed,
        sweep_early,
        f"claim {PURGED} amend answer",
    ),
    "sweep a deletion": Course(IN_PARTS.deleted_and_replayed, sweep, f"claim {PURGED} PURGE answer"),
}
REPEATABLE = {name: course for name, course in COURSES.items() if course.repeatable}


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES.keys())
def test_the_sweep_recovers_from_a_death_before_any_step(world: World, course: Course) -> None:
    the_sweep_recovers(world, course)


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.parametrize("course", REPEATABLE.values(), ids=REPEATABLE.keys())
def test_a_retrying_client_recovers_from_a_death_before_any_step(world: World, course: Course) -> None:
    a_retrying_client_recovers(world, course, "issued")


def test_a_composition_without_a_recorded_multipart_upload_leaves_none(world: World) -> None:
    media_id = IN_PARTS.died_before("amend due_at multipart_id")(world)
    assert len(world.find().multipart_uploads) == 1
    world.sweep(AFTER_LEASE)
    assert world.find().of(media_id).state is State.READY  # type: ignore[union-attr]
    world.sweep(OVER)
    assert world.find().multipart_uploads == []
