"""Courses: operations whose broker is killed before each of their steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest

from tests.crash.conftest import GRACE_SECONDS, POLICY_SECONDS, World

Prepare = Callable[[World], str]
Act = Callable[..., str]
OVER = POLICY_SECONDS + GRACE_SECONDS + 1.0
AFTER_LEASE = 130.0


@dataclass(frozen=True, slots=True)
class Course:
    """An operation on a prepared media, its expected steps, and whether a client can repeat it."""

    prepare: Prepare
    act: Act
    expected: str
    repeatable: bool = False


def complete(world: World, media_id: str, **steering: str) -> str:
    return steps_of(world.client.complete(media_id, **steering), 200, 422)


def complete_overwritten(world: World, media_id: str, **steering: str) -> str:
    return complete(world, media_id, **{"x-overwrite": "1", **steering})


def delete(world: World, media_id: str, **steering: str) -> str:
    return steps_of(world.client.delete(media_id, **steering), 200, 404)


def sweep(world: World, _: str, **steering: str) -> str:
    return world.sweep(OVER, **steering).headers["x-steps"]


def sweep_early(world: World, _: str, **steering: str) -> str:
    return world.sweep(AFTER_LEASE, **steering).headers["x-steps"]


def steps_of(answer: httpx.Response, *statuses: int) -> str:
    assert answer.status_code in statuses, answer.text
    return answer.headers["x-steps"]


@contextmanager
def dies(world: World) -> Iterator[None]:
    """Expect that the broker is killed during the request."""
    with pytest.raises(httpx.TransportError):
        yield
    world.broker.join()
    assert world.broker.was_killed


def contains_in_order(steps: list[str], expected: list[str]) -> bool:
    left = iter(steps)
    return all(any(step.split(" ")[0] == want or step.endswith(f" {want}") for step in left) for want in expected)


def deaths(world: World, course: Course, then: Act | None = None) -> Iterator[str]:
    """Let the broker die before each step of a course in turn; yield the step once another broker runs.

    Before that, do `then` after every lease of the dead broker has expired.
    """
    steps = course.act(world, course.prepare(world)).split(",")
    assert contains_in_order(steps, course.expected.split()), steps
    for number, step in enumerate(steps, 1):
        world.client.outcomes.clear()
        subject = course.prepare(world)
        with dies(world):
            course.act(world, subject, **{"x-die-before": str(number)})
        where = f"after a death before {step} ({number} of {len(steps)})"
        assert world.wrong() == [], where
        world.restart()
        if then is not None:
            world.client.clock = AFTER_LEASE
            then(world, subject)
            assert world.wrong() == [], where
            world.client.clock = 0
        yield where


def the_sweep_recovers(world: World, course: Course) -> None:
    """Check after a death before each step that the sweep settles everything."""
    for where in deaths(world, course):
        assert world.wrong_once_settled() == [], where


def a_retrying_client_recovers(world: World, course: Course, *other_outcomes: str) -> None:
    """Check after a death before each step that a repeated request, and then the sweep, settle everything.

    A client knows an outcome that is final, or one of `other_outcomes`.
    """
    for where in deaths(world, course, then=course.act):
        assert set(world.client.outcomes.values()) <= {"ready", "rejected", "deleted", *other_outcomes}, where
        assert world.wrong_once_settled() == [], where
