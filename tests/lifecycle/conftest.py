"""Brokers for the tests of compositions."""

import pytest

from tests.support.gates import Gate
from tests.support.in_parts import LIMITS
from tests.support.world import MakeWorld, World


@pytest.fixture
def gate(make_world: MakeWorld) -> World:
    """Return a broker for uploads in parts whose calls to S3 can be held."""
    return make_world(Gate, **LIMITS)
