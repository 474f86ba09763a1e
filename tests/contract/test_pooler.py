"""PgBouncer in transaction pooling: each transaction gets another session of PostgreSQL."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import httpx
import jwt
import psycopg
import pytest

from broker.errors import DatabaseUnavailable, SettingsInvalid
from broker.store import Store, is_current, migrate
from broker.store.connections.address import parse_url
from broker.store.connections.engine import reading_engine, writing_engine
from tests.support.pgbouncer import OpenPooler
from tests.support.processes import BROKER, running
from tests.support.samples import UNLIMITED, pending

SECRET = "an operator's secret of more than 32 bytes"
ROUNDS = 200
SETUPS = pytest.mark.parametrize(
    "options",
    [{}, {"ignore_startup_parameters": "options"}],
    ids=["refuses start-up settings", "ignores start-up settings"],
)


@pytest.mark.parametrize("query", ["", "?prepare_threshold=0"], ids=["as it is", "with a threshold"])
@SETUPS
async def test_two_processes_serve_through_three_sessions(
    tmp_path: Path, open_pooler: OpenPooler, options: dict[str, str], query: str
) -> None:
    url = open_pooler(default_pool_size=3, **options) + query
    migrate(url)
    assert is_current(url)
    variables = {
        "SECRET_KEY": SECRET,
        "AWS_S3_BUCKET_NAME": "videos",
        "AWS_ACCESS_KEY_ID": "AKIA0000000000000000",
        "AWS_SECRET_ACCESS_KEY": "of another",
        "BROKER_S3_ENDPOINT_URL": "http://127.0.0.1:9",
        "BROKER_DATABASE_URL": url,
        **{f"BROKER_RATE_LIMIT_{name}": "off" for name in ("ADDRESS", "ISSUE", "PLAYBACK", "DELETE")},
    }
    claims = {"sub": "ann", "exp": int(time.time()) + 600, "scope": "media:upload media:read media:delete"}
    headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}
    with running("serve", "--workers", "2", "--port", "0", cwd=tmp_path, program=BROKER, **variables) as server:
        base = server.wait_for(r"running on (http://127\.0\.0\.1:\d+)")[1] + "/api/v1/s3-media"
        server.wait_for("startup complete")
        server.wait_for(r"(?s)startup complete.*startup complete")
        statuses: Counter[tuple[str, int]] = Counter()
        # A new connection for each request, so that both processes answer.
        limits = httpx.Limits(max_keepalive_connections=0, max_connections=16)
        async with httpx.AsyncClient(headers=headers, limits=limits, timeout=httpx.Timeout(60, pool=None)) as client:

            async def one_round() -> None:
                issued = await client.post(f"{base}/upload", json={"content_type": "video/mp4"})
                media = f"{base}/{issued.json().get('media_id')}"
                read, listed = await asyncio.gather(client.get(media), client.get(f"{base}/"))
                deleted = await client.delete(media)
                answers = {"issue": issued, "read": read, "list": listed, "delete": deleted}
                statuses.update((name, answer.status_code) for name, answer in answers.items())

            await asyncio.gather(*(one_round() for _ in range(ROUNDS)))
        expected = {"issue": 201, "read": 409, "list": 200, "delete": 200}
        assert statuses == dict.fromkeys(expected.items(), ROUNDS)


@SETUPS
async def test_a_write_through_a_pooler_keeps_its_time_limit(
    postgresql_url: str, open_pooler: OpenPooler, options: dict[str, str]
) -> None:
    migrate(postgresql_url)
    url = open_pooler(default_pool_size=1, **options)
    engine = writing_engine(parse_url(url), timeout_seconds=1.5)
    for _ in range(2):
        with engine.begin() as connection:
            limits = [
                connection.exec_driver_sql(f"SHOW {limit}").scalar() for limit in ("statement_timeout", "lock_timeout")
            ]
            assert limits == ["1500ms", "1500ms"]
    engine.dispose()
    with psycopg.connect(url) as other:  # PostgreSQL's only session is back at its defaults
        assert other.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_a_migration_through_a_pooler_leaves_no_schema_to_other_clients(open_pooler: OpenPooler) -> None:
    url = open_pooler(default_pool_size=1)
    migrate(url, schema="app")
    with psycopg.connect(url) as other:
        assert other.execute("SHOW search_path").fetchone() == ('"$user", public',)


@pytest.mark.parametrize("through_pooler", [False, True])
def test_statements_are_prepared_on_direct_connections_only(
    postgresql_url: str, open_pooler: OpenPooler, through_pooler: bool
) -> None:
    url = open_pooler() if through_pooler else postgresql_url
    engine = reading_engine(parse_url(url), timeout_seconds=5, pool_size=1)
    with engine.connect() as connection:
        for _ in range(10):
            connection.exec_driver_sql("SELECT %(number)s::int", {"number": 1})
        prepared = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar()
    engine.dispose()
    assert prepared == (0 if through_pooler else 1)


async def test_a_pooler_whose_sessions_are_taken_delays_no_request_beyond_its_limit(
    postgresql_url: str, open_pooler: OpenPooler
) -> None:
    migrate(postgresql_url)
    url = open_pooler(default_pool_size=1)
    store = Store(url, timeout_seconds=1)
    await store.ping()
    with psycopg.connect(url) as other:
        other.execute("SELECT 1")  # an open transaction holds the only session
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(store.add(pending(), UNLIMITED) for _ in range(3)), store.usage("ann"), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 4
        assert time.monotonic() - began < 1.5 * 1 + 5  # what a busy machine may take beyond the limit
    async with asyncio.timeout(30):
        while not await _answers(store):
            await asyncio.sleep(0.05)
    await store.close()


async def _answers(store: Store) -> bool:
    try:
        await store.ping()
    except DatabaseUnavailable:
        return False
    return True


def test_a_value_that_libpq_cannot_use_is_an_invalid_setting() -> None:
    with pytest.raises(SettingsInvalid, match=r'BROKER_DATABASE_URL: .*invalid sslmode value: "perhaps"'):
        is_current("postgresql://ann@127.0.0.1:1/broker?sslmode=perhaps")


def test_the_options_of_sqlite_are_read_by_their_types(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/broker.db?timeout=1.5&check_same_thread=false"
    migrate(url)
    assert is_current(url)
