"""Databases of earlier releases, whose tables had common names: they are renamed, and nothing is lost."""

from uuid import UUID

import pytest
import sqlalchemy as sa

from broker.domain.access.quota import Usage
from broker.errors import SettingsInvalid
from broker.store import Store, is_current, migrate, pending_revision
from broker.store.connections.address import parse_url
from broker.store.migration import known_revisions
from tests.contract.earlier_release import REVISIONS, ROWS, apply_released_migrations, run
from tests.contract.reflection import reflected
from tests.support.samples import UNLIMITED, pending

MEDIA_ID = UUID("019b0000-0000-7000-8000-000000000001")


def tables(url: str) -> set[str]:
    """Return the names of all tables."""
    engine = sa.create_engine(parse_url(url))
    names = set(sa.inspect(engine).get_table_names())
    engine.dispose()
    return names


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_database_of_an_earlier_release_keeps_its_rows(revision: str, empty_urls: tuple[str, str]) -> None:
    url = empty_urls[0]
    apply_released_migrations(url, revision)
    run(url, *ROWS)
    assert pending_revision(url) == known_revisions()[-1]
    migrate(url)
    assert is_current(url)
    store = Store(url)
    media = await store.get(MEDIA_ID, "ann")
    assert (media.idempotency_key, media.metadata, media.attempt) == ("a key", {"title": "Ä"}, 0)
    assert await store.usage("ann") == Usage(stored_bytes=1000, media_count=1)
    assert await store.add(pending(idempotency_key="a key"), UNLIMITED) == media
    await store.close()


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_renamed_database_equals_a_new_one(kind: str, revision: str, empty_urls: tuple[str, str]) -> None:
    apply_released_migrations(empty_urls[0], revision)
    for url in empty_urls:
        migrate(url)
        migrate(url)
        assert is_current(url)
    renamed, new = (sa.create_engine(parse_url(url)) for url in empty_urls)
    named = kind == "postgresql"  # SQLite cannot rename a constraint
    assert reflected(renamed, constraint_names=named) == reflected(new, constraint_names=named)
    for engine in (renamed, new):
        engine.dispose()


def test_an_earlier_release_refuses_a_renamed_database_and_changes_nothing(empty_urls: tuple[str, str]) -> None:
    url = empty_urls[0]
    apply_released_migrations(url)
    migrate(url)
    before = tables(url)
    with pytest.raises(sa.exc.DBAPIError, match="disabled_target"):
        apply_released_migrations(url)
    assert tables(url) == before
    assert "broker migrate" in str(run(url, "SELECT message FROM disabled_target"))


def test_other_rows_of_the_earlier_version_table_are_kept(empty_urls: tuple[str, str]) -> None:
    url = empty_urls[0]
    apply_released_migrations(url)
    run(url, "INSERT INTO alembic_version VALUES ('f00ba4')")
    migrate(url)
    assert run(url, "SELECT version_num FROM alembic_version") == [("f00ba4",)]


def test_tables_of_an_earlier_release_without_their_revision_are_left_alone(empty_urls: tuple[str, str]) -> None:
    url = empty_urls[0]
    apply_released_migrations(url)
    run(url, "UPDATE alembic_version SET version_num = 'f00ba4'")
    before = tables(url)
    with pytest.raises(SettingsInvalid) as refused:
        migrate(url)
    assert str(refused.value) == (
        "BROKER_DATABASE_URL: has the tables of an earlier release (media, usage), but alembic_version names no "
        "revision of theirs (0001, 0002, 1001, 1002); insert the right one, then migrate"
    )
    assert tables(url) == before
