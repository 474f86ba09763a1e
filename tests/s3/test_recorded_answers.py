"""The embedded S3 answers as AWS is recorded to answer: a test for each row of the table."""

from collections import Counter

import pytest

from tests.s3.recorded_answers import Player, Row, rows

ROWS = list(rows())


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.subject}: {row.name}" for row in ROWS])
def test_s3_answers_as_recorded(row: Row, requests, form):
    player = Player(requests, form, {})
    player.check(row, player.play(row))


def test_each_row_has_a_name_of_its_own_and_a_source():
    names = Counter((row.subject, row.name) for row in ROWS)
    assert [name for name, count in names.items() if count > 1] == []
    assert all(row.source.startswith(("LocalStack ", "ceph/s3-tests ", "VersityGW ", "AWS ")) for row in ROWS)
