"""A broker that dies before any step of a resumable upload loses nothing and leaves nothing behind."""

import secrets
from collections.abc import Callable

import pytest

from broker.domain.keys import part_key
from broker.domain.media import State
from tests.crash.conftest import World
from tests.crash.courses import (
    AFTER_LEASE,
    OVER,
    Course,
    complete,
    complete_overwritten,
    deaths,
    delete,
    dies,
    sweep,
    sweep_early,
)
from tests.support.dying import IN_PARTS, OTHER

WRONG_CRC = "AAAAAAAAAAA="


def nothing(world: World) -> str:
    return ""


def issued(world: World) -> str:
    return str(world.client.issue_in_parts()["media_id"])


def issued_with_key(world: World) -> str:
    key = secrets.token_hex(8)
    world.client.issue_in_parts(key=key)
    return key


def uploaded(world: World) -> str:
    answer = world.client.issue_in_parts()
    world.client.upload_parts(answer)
    return str(answer["media_id"])


def of_another_file(world: World) -> str:
    answer = world.client.issue_in_parts(checksum_crc64nvme=WRONG_CRC)
    world.client.upload_parts(answer)
    return str(answer["media_id"])


def of_another_size(world: World) -> str:
    media_id = uploaded(world)
    media = world.find().of(media_id)
    assert media is not None
    world.s3.put_object(Bucket=world.settings["bucket_name"], Key=part_key(media.id, 2), Body=OTHER[:-1])
    return media_id


def ready(world: World) -> str:
    media_id = uploaded(world)
    assert world.client.complete(media_id).status_code == 200
    return media_id


def replayed(world: World) -> str:
    answer = world.client.issue_in_parts()
    world.client.upload_parts(answer)
    assert world.client.complete(answer["media_id"]).status_code == 200
    world.client.upload_parts(answer, IN_PARTS[::-1])
    return str(answer["media_id"])


def deleted_and_replayed(world: World) -> str:
    answer = world.client.issue_in_parts()
    world.client.upload_parts(answer)
    assert world.client.complete(answer["media_id"]).status_code == 200
    assert world.client.delete(answer["media_id"]).status_code == 200
    world.client.upload_parts(answer)
    return str(answer["media_id"])


def died_before(step: str) -> Callable[[World], str]:
    """Return a preparation of a media whose broker died before a step of its completion."""

    def prepared(world: World) -> str:
        steps = complete(world, uploaded(world)).split(",")
        media_id = uploaded(world)
        with dies(world):
            complete(world, media_id, **{"x-die-before": str(steps.index(step) + 1)})
        world.restart()
        media = world.find().of(media_id)
        assert media is not None
        assert media.state is State.PROMOTING
        return media_id

    return prepared


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
    "issue again": Course(issued_with_key, issue_again, "add list_objects_v2 answer"),
    "list the parts": Course(issued, list_parts, "get list_objects_v2 answer", True),
    "complete": Course(uploaded, complete, f"get {COMPOSED} answer", True),
    "complete parts of which one is overwritten meanwhile": Course(
        uploaded,
        complete_overwritten,
        f"get {CREATED} abort_multipart_upload OVERWRITE {COMPOSED} answer",
        True,
    ),
    "complete parts of another file": Course(
        of_another_file, complete, f"get {CREATED} complete_multipart_upload head_object DIFFER answer", True
    ),
    "complete a part of another size": Course(of_another_size, complete, "get list_objects_v2 DIFFER answer", True),
    "delete before the upload is completed": Course(uploaded, delete, f"get DELETE {PURGED} answer", True),
    "delete a ready media": Course(ready, delete, "get DELETE list_multipart_uploads delete_objects answer", True),
    "sweep an upload without parts": Course(issued, sweep, "claim list_objects_v2 EXPIRE answer"),
    "sweep an upload without a complete": Course(uploaded, sweep, f"claim {COMPOSED} answer"),
    "sweep a composition without a multipart upload": Course(
        died_before("create_multipart_upload"),
        sweep_early,
        "claim amend list_objects_v2 create_multipart_upload amend complete_multipart_upload PROMOTE answer",
    ),
    "sweep a composition without a complete": Course(
        died_before("complete_multipart_upload"),
        sweep_early,
        "claim amend head_object list_parts list_objects_v2 complete_multipart_upload head_object PROMOTE answer",
    ),
    "sweep a completed composition": Course(
        died_before("change PROMOTE"), sweep_early, "claim amend head_object PROMOTE answer"
    ),
    "sweep replayed parts": Course(replayed, sweep, f"claim {PURGED} amend answer"),
    "sweep a deletion while policies are open": Course(
        deleted_and_replayed,
        sweep_early,
        f"claim {PURGED} amend answer",
    ),
    "sweep a deletion": Course(deleted_and_replayed, sweep, f"claim {PURGED} PURGE answer"),
}
REPEATABLE = {name: course for name, course in COURSES.items() if course.repeatable}


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES.keys())
def test_the_sweep_recovers_from_a_death_before_any_step(world: World, course: Course) -> None:
    for where in deaths(world, course):
        assert world.wrong_once_settled() == [], where


@pytest.mark.parametrize("course", REPEATABLE.values(), ids=REPEATABLE.keys())
def test_a_retrying_client_recovers_from_a_death_before_any_step(world: World, course: Course) -> None:
    for where in deaths(world, course, then=course.act):
        assert set(world.client.outcomes.values()) <= {"ready", "rejected", "deleted", "issued"}, where
        assert world.wrong_once_settled() == [], where


def test_a_composition_without_a_recorded_multipart_upload_leaves_none(world: World) -> None:
    media_id = died_before("amend due_at multipart_id")(world)
    assert len(world.find().multipart_uploads) == 1
    world.sweep(AFTER_LEASE)
    assert world.find().of(media_id).state is State.READY  # type: ignore[union-attr]
    world.sweep(OVER)
    assert world.find().multipart_uploads == []
