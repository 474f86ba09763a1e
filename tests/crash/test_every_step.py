"""A broker that dies before any of its steps loses nothing and leaves nothing behind.

Each course is run once to learn its steps; then it is run again for each of them, and the process is killed before it.
A step that is added to the broker is thereby tested as well. `expected` holds the steps that a course takes at least,
in order, so that none of the courses comes to test less than it says.

The process dies between two operations of the store, and tests/contract holds what each does on both databases. So one
set of courses runs on both, and the others on PostgreSQL alone.
"""

import pytest

from broker.domain.keys import staging_key
from tests.crash.conftest import World
from tests.crash.courses import (
    Course,
    a_retrying_client_recovers,
    complete,
    complete_overwritten,
    delete,
    sweep,
    sweep_early,
    the_sweep_recovers,
)
from tests.crash.preparations import ONE_FORM, nothing
from tests.support.dying import OTHER


def not_as_promised(world: World) -> str:
    media_id = ONE_FORM.issued(world)
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
    "issue again, later": Course(ONE_FORM.issued_with_key, issue_again, "add amend answer"),
    "complete": Course(ONE_FORM.uploaded, complete, "get head_object MATCH copy_object PROMOTE answer", True),
    "complete an upload that is overwritten meanwhile": Course(
        ONE_FORM.uploaded,
        complete_overwritten,
        "get head_object MATCH copy_object head_object OVERWRITE head_object MATCH copy_object PROMOTE answer",
        True,
    ),
    "complete an upload that differs": Course(not_as_promised, complete, "get head_object DIFFER answer", True),
    "delete before the upload is completed": Course(
        ONE_FORM.uploaded, delete, "get DELETE delete_objects answer", True
    ),
    "delete a ready media": Course(ONE_FORM.ready, delete, "get DELETE delete_objects answer", True),
    "sweep a media without an upload": Course(ONE_FORM.issued, sweep, "claim head_object head_bucket EXPIRE answer"),
    "sweep an upload without a complete": Course(
        ONE_FORM.uploaded,
        sweep,
        "claim head_object MATCH copy_object PROMOTE answer",
    ),
    "sweep an upload that differs": Course(not_as_promised, sweep, "claim head_object DIFFER answer"),
    "sweep an interrupted promotion": Course(
        ONE_FORM.died_before("change PROMOTE"), sweep_early, "claim amend copy_object PROMOTE answer"
    ),
    "sweep a rejected media": Course(rejected, sweep, "claim delete_objects delete_objects amend answer"),
    "sweep a replayed media": Course(ONE_FORM.replayed, sweep, "claim delete_objects amend answer"),
    "sweep a deletion while the policy is open": Course(
        ONE_FORM.deleted_and_replayed, sweep_early, "claim delete_objects delete_objects amend answer"
    ),
    "sweep a deletion": Course(
        ONE_FORM.deleted_and_replayed, sweep, "claim delete_objects delete_objects PURGE answer"
    ),
}


REPEATABLE = {name: course for name, course in COURSES.items() if course.repeatable}


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES.keys())
def test_the_sweep_recovers_from_a_death_before_any_step(world: World, course: Course) -> None:
    the_sweep_recovers(world, course)


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.parametrize("course", REPEATABLE.values(), ids=REPEATABLE.keys())
def test_a_retrying_client_recovers_from_a_death_before_any_step(world: World, course: Course) -> None:
    a_retrying_client_recovers(world, course)
