"""The store over each database."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from broker.store import Store
from tests.support.postgres import PostgreSQL

OpenStore = Callable[..., Store]


@pytest.fixture
def empty_urls(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Return the URLs of two databases without tables."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/two.db"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    names = server.create(), server.create()
    yield server.url(names[0]), server.url(names[1])
    for name in names:
        server.drop(name)


@pytest.fixture
async def open_store(database_url: str) -> AsyncIterator[OpenStore]:
    """Return a function that opens a store on the database, as another replica would; all are closed afterwards."""
    stores: list[Store] = []

    def open_one(**options: float) -> Store:
        store = Store(database_url, **options)  # type: ignore[arg-type]
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    """Return a store on the database."""
    return open_store()
