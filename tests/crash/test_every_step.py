"""A broker that dies before any of its steps loses nothing and leaves nothing behind.

Each course is run once to learn its steps; then it is run again for each of them, and the process is killed before it.
A step that is added to the broker is thereby tested as well. `expected` holds the steps that a course takes at least,
in order, so that none of the courses comes to test less than it says.
"""

import secrets

import pytest

from broker.domain.keys import staging_key
from broker.domain.media import State
from tests.crash.conftest import World
from tests.crash.courses import Course, complete, complete_overwritten, deaths, delete, dies, sweep, sweep_early
from tests.support.dying import OTHER


def nothing(world: World) -> str:
    return ""


def issued(world: World) -> str:
    return str(world.client.issue()["media_id"])


def issued_with_key(world: World) -> str:
    key = secrets.token_hex(8)
    world.client.issue(key=key)
    return key


def uploaded(world: World) -> str:
    answer = world.client.issue()
    world.client.upload(answer)
    return str(answer["media_id"])


def not_as_promised(world: World) -> str:
    media_id = issued(world)
    media = world.find().of(media_id)
    assert media is not None
    world.s3.put_object(
        Bucket=world.settings["bucket_name"], Key=staging_key(media.id), Body=OTHER, ContentType="text/html"
    )
    return media_id


def rejected(world: World) -> str:
    media_id = not_as_promised(world)
    assert world.client.complete(media_id).status_code == 422
    return media_id


def ready(world: World) -> str:
    media_id = uploaded(world)
    assert world.client.complete(media_id).status_code == 200
    return media_id


def replayed(world: World) -> str:
    answer = world.client.issue()
    world.client.upload(answer)
    assert world.client.complete(answer["media_id"]).status_code == 200
    world.client.upload(answer, OTHER)
    return str(answer["media_id"])


def deleted_and_replayed(world: World) -> str:
    answer = world.client.issue()
    world.client.upload(answer)
    assert world.client.complete(answer["media_id"]).status_code == 200
    assert world.client.delete(answer["media_id"]).status_code == 200
    world.client.upload(answer, OTHER)
    return str(answer["media_id"])


def promoting(world: World) -> str:
    """Prepare a media whose broker died right after the copy."""
    media_id = uploaded(world)
    with dies(world):
        complete(world, media_id, **{"x-die-before": "5"})
    world.restart()
    media = world.find().of(media_id)
    assert media is not None
    assert media.state is State.PROMOTING
    return media_id


def issue(world: World, _: str, **steering: str) -> str:
    return str(world.client.issue(**steering)["steps"])


def issue_again(world: World, key: str, **steering: str) -> str:
    world.client.clock += 60
    try:
        return str(world.client.issue(key=key, **steering)["steps"])
    finally:
        world.client.clock -= 60


COURSES = {
    "issue": Course(nothing, issue, "add answer"),
    "issue again, later": Course(issued_with_key, issue_again, "add amend answer"),
    "complete": Course(uploaded, complete, "get head_object MATCH copy_object PROMOTE answer", True),
    "complete an upload that is overwritten meanwhile": Course(
        uploaded,
        complete_overwritten,
        "get head_object MATCH copy_object head_object OVERWRITE head_object MATCH copy_object PROMOTE answer",
        True,
    ),
    "complete an upload that differs": Course(not_as_promised, complete, "get head_object DIFFER answer", True),
    "delete before the upload is completed": Course(uploaded, delete, "get DELETE delete_objects answer", True),
    "delete a ready media": Course(ready, delete, "get DELETE delete_objects answer", True),
    "sweep a media without an upload": Course(issued, sweep, "claim head_object head_bucket EXPIRE answer"),
    "sweep an upload without a complete": Course(
        uploaded,
        sweep,
        "claim head_object MATCH copy_object PROMOTE answer",
    ),
    "sweep an upload that differs": Course(not_as_promised, sweep, "claim head_object DIFFER answer"),
    "sweep an interrupted promotion": Course(promoting, sweep_early, "claim amend copy_object PROMOTE answer"),
    "sweep a rejected media": Course(rejected, sweep, "claim delete_objects delete_objects amend answer"),
    "sweep a replayed media": Course(replayed, sweep, "claim delete_objects amend answer"),
    "sweep a deletion while the policy is open": Course(
        deleted_and_replayed, sweep_early, "claim delete_objects delete_objects amend answer"
    ),
    "sweep a deletion": Course(deleted_and_replayed, sweep, "claim delete_objects delete_objects PURGE answer"),
}


REPEATABLE = {name: course for name, course in COURSES.items() if course.repeatable}


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES.keys())
def test_the_sweep_recovers_from_a_death_before_any_step(world: World, course: Course) -> None:
    for where in deaths(world, course):
        assert world.wrong_once_settled() == [], where


@pytest.mark.parametrize("course", REPEATABLE.values(), ids=REPEATABLE.keys())
def test_a_retrying_client_recovers_from_a_death_before_any_step(world: World, course: Course) -> None:
    for where in deaths(world, course, then=course.act):
        assert set(world.client.outcomes.values()) <= {"ready", "rejected", "deleted"}, where
        assert world.wrong_once_settled() == [], where
