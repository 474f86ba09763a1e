"""The statements for PostgreSQL, without a server: row locks and their order, skipped rows, and additions at once.

SQLite has one writer and ignores all of it. That the statements do what they say, tests/contract shows over a server.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from broker.domain.access.quota import Quota, Usage
from broker.domain.media import Media, State
from broker.store import outbox, removal, writes
from broker.store.at_once import add_at_once
from broker.store.ledger import Ledger
from broker.store.prepared import PreparedInsert
from broker.store.rows import NAMES, is_among
from broker.store.schema import media as media_table
from broker.store.schema import qualified
from tests.support.samples import UNLIMITED, pending

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


class Rows(list[Any]):
    """The rows of an answer, in the ways that the store reads them."""

    rowcount = 0

    def all(self) -> "Rows":
        return self

    def scalars(self) -> "Rows":
        return self

    def first(self) -> Any:
        return self[0] if self else None

    def scalar_one(self) -> int:
        return 0


class Asked:
    """A connection to PostgreSQL that writes down what is asked, and answers what a test says."""

    dialect = sa.create_engine("postgresql+psycopg://").dialect

    def __init__(self, *answers: Rows, schema: str | None = None) -> None:
        self.statements: list[tuple[str, Any]] = []
        self._answers = list(answers)
        self._schema = schema

    def get_execution_options(self) -> dict[str, Any]:
        return {} if self._schema is None else {"schema_translate_map": {None: self._schema}}

    def execute(self, statement: Any, parameters: Any = None) -> Rows:
        return self.exec_driver_sql(str(statement.compile(dialect=self.dialect)), parameters)

    def exec_driver_sql(self, statement: str, parameters: Any = None) -> Rows:
        self.statements.append((" ".join(statement.split()), parameters))
        return self._answers.pop(0) if self._answers else Rows()

    def rollback(self) -> None:
        self.statements.append(("ROLLBACK", None))

    def commit(self) -> None:
        self.statements.append(("COMMIT", None))

    @property
    def texts(self) -> list[str]:
        return [text for text, _ in self.statements]


def asked_by(call: Callable[[Any], object], *answers: Rows) -> Asked:
    connection = Asked(*answers)
    call(connection)
    return connection


SKIPPING_MEDIA = "FOR UPDATE OF broker_media SKIP LOCKED"
STANDALONE: dict[str, tuple[Any, list[str]]] = {
    "remove ended": (
        removal._RemoveEnded(State.EXPIRED, NOW, LATER, 5),
        [
            rf"ORDER BY broker_media\.ended_at LIMIT \S+ {SKIPPING_MEDIA}\)",
            "^DELETE FROM broker_outbox",
            "^DELETE FROM broker_media",
        ],
    ),
    "date ended": (
        removal._DateEnded(State.EXPIRED, 5),
        [rf"ORDER BY broker_media\.ended_at LIMIT \S+ {SKIPPING_MEDIA}\)"],
    ),
    "record an erasure": (removal._RecordErasure("ann", NOW), ["ON CONFLICT DO NOTHING$", "^UPDATE broker_erasure"]),
    "claim erasures": (
        removal._ClaimErasures(NOW, LATER, 5),
        [r"ORDER BY broker_erasure\.next_at LIMIT \S+ FOR UPDATE SKIP LOCKED\)"],
    ),
    "remove erased": (
        removal._RemoveErased("ann", NOW, 5),
        [rf"LIMIT \S+ {SKIPPING_MEDIA}$", "^DELETE FROM broker_outbox", "^DELETE FROM broker_media"],
    ),
    "forget an issuer": (removal._ForgetIssuer("ann", 5), [rf"LIMIT \S+ {SKIPPING_MEDIA}\)"]),
    "finish an erasure": (
        removal._FinishErasure("ann"),
        [
            "^SELECT count",
            r"FROM broker_usage WHERE broker_usage\.owner = \S+ FOR UPDATE SKIP LOCKED$",
            r"broker_media\.owner = \S+ LIMIT",
            r"broker_media\.issued_by = \S+ LIMIT",
            "^DELETE FROM broker_outbox",
            "^DELETE FROM broker_usage",
            "^DELETE FROM broker_erasure",
        ],
    ),
    "claim announcements": (
        outbox._Claim("hook", NOW, LATER, 5),
        [r"ORDER BY broker_outbox\.next_at LIMIT \S+ FOR UPDATE OF broker_outbox SKIP LOCKED\)"],
    ),
    "disable a target": (outbox._Disable("hook", NOW), ["ON CONFLICT DO NOTHING$"]),
}


@pytest.mark.parametrize("name", STANDALONE)
def test_what_several_replicas_may_do_at_once_skips_the_rows_of_others(name: str) -> None:
    operation, patterns = STANDALONE[name]
    connection = asked_by(lambda connection: writes.apply(connection, [operation]))
    assert len(connection.texts) == len(patterns)
    for text, pattern in zip(connection.texts, patterns, strict=True):
        assert re.search(pattern, text), text


def test_an_erasure_whose_usage_is_locked_is_left_to_a_later_turn() -> None:
    class One(Rows):
        def scalar_one(self) -> int:
            return 1

    connection: Any = Asked(One(), Rows())
    assert removal._FinishErasure("ann").run(connection) is False
    assert not any(text.startswith("DELETE") for text in connection.texts)


def test_a_claim_takes_due_media_in_order_then_strays() -> None:
    connection = asked_by(lambda connection: writes.apply(connection, [writes.Claim(NOW, LATER, 5)]))
    due, strays = connection.statements
    locks = r"ORDER BY broker_media\.due_at LIMIT \S+ FOR UPDATE SKIP LOCKED\) UPDATE broker_media SET"
    assert re.search(rf"WHERE broker_media\.due_at <= .+ {locks}", due[0])
    assert re.search(rf"WHERE state = 'promoting' AND broker_media\.due_at > .+ {locks}", strays[0])
    assert due[1] == {"now": NOW, "a_lease_ago": NOW - (LATER - NOW), "at_most": 5, "lease_until": LATER}
    assert strays[1] == {"latest": LATER + writes.CLOCK_SKEW, "at_most": 5, "lease_until": LATER}


def test_a_full_claim_looks_for_no_strays() -> None:
    rows = Rows([pending(), pending()])
    connection = asked_by(lambda connection: writes.apply(connection, [writes.Claim(NOW, LATER, 2)]), rows)
    assert len(connection.texts) == 1
    connection = asked_by(lambda connection: writes.apply(connection, [writes.Claim(NOW, LATER, 3)]), rows)
    assert connection.statements[1][1]["at_most"] == 1


def test_a_change_locks_its_rows_in_order() -> None:
    before = pending()
    change = writes.Change(before, {"version": 1})
    connection = asked_by(lambda connection: writes.apply(connection, [change]))
    ((text, parameters),) = connection.statements
    assert re.search(r"broker_media\.id = ANY \(\S+\) ORDER BY broker_media\.id FOR UPDATE$", text)
    assert parameters == {"ids": [before.id]}


def test_the_ledger_locks_all_owners_in_order_and_opens_new_ones_before() -> None:
    none, both = Rows(), Rows([("ann", 1, 2, 3, 4), ("bob", 0, 0, 0, 0)])
    connection = asked_by(lambda connection: Ledger(connection, ["bob", "ann", "bob"]), none, Rows(), both)
    lock, rollback, opening, commit, again = connection.statements
    assert re.search(r"owner IN \(.*\) ORDER BY broker_usage\.owner FOR UPDATE$", lock[0])
    assert (rollback[0], commit[0], again) == ("ROLLBACK", "COMMIT", lock)
    assert lock[1] == opening[1] == {"owners": ["ann", "bob"]}
    assert opening[0] == (
        f"INSERT INTO broker_usage (owner, {COUNTERS}) SELECT owner, 0, 0, 0, 0 "  # noqa: S608
        "FROM unnest(%(owners)s::text[]) AS owner ORDER BY owner ON CONFLICT DO NOTHING"
    )


def test_a_ledger_of_known_owners_or_none_opens_nothing() -> None:
    assert asked_by(lambda connection: Ledger(connection, [])).statements == []
    known = asked_by(lambda connection: Ledger(connection, ["ann"]), Rows([("ann", 0, 0, 0, 0)]))
    assert len(known.statements) == 1


def test_an_owner_that_is_erased_while_it_is_opened_is_opened_again() -> None:
    known = Rows([("ann", 0, 0, 0, 0)])
    connection = asked_by(lambda connection: Ledger(connection, ["ann"]), Rows(), Rows(), Rows(), Rows(), known)
    assert [text.split()[0] for text in connection.texts] == [
        *("SELECT", "ROLLBACK", "INSERT", "COMMIT"),
        *("SELECT", "ROLLBACK", "INSERT", "COMMIT"),
        "SELECT",
    ]


@pytest.mark.parametrize(("schema", "name"), [(None, "broker_usage"), ("app", "app.broker_usage")])
def test_the_ledger_writes_what_has_changed_in_its_schema(schema: str | None, name: str) -> None:
    connection: Any = Asked(Rows([("ann", 1, 2, 3, 4), ("bob", 0, 0, 0, 0)]), schema=schema)
    ledger = Ledger(connection, ["ann", "bob"])
    ledger.move("ann", Usage(1, -2, 0, 5))
    ledger.write()
    _, (text, rows) = connection.statements
    assert text.startswith(f"UPDATE {name} SET pending_count=%(pending_count)s")  # noqa: S608
    assert [dict(row) for row in rows] == [{"of_owner": "ann", **Usage(2, 0, 3, 9)._asdict()}]


INSERT = PreparedInsert(media_table, NAMES)
COUNTERS = "pending_count, promised_bytes, stored_bytes, media_count"
TYPES = "pending_count bigint, promised_bytes bigint, stored_bytes bigint, media_count bigint"
SUMS = ", ".join(f"{name} = usage.{name} + excluded.{name}" for name in COUNTERS.split(", "))


def statement_of(alone: str, beside: str, insert: str, unless_known: str = "", usage: str = "broker_usage") -> str:
    return (
        f"WITH counted AS ( INSERT INTO {usage} AS usage (owner, {COUNTERS}) SELECT owner, {COUNTERS} FROM "  # noqa: S608
        f"json_to_recordset(%(requested)s::json) AS requested (owner text, {TYPES}) WHERE {alone} ORDER BY owner ON "
        f"CONFLICT (owner) DO UPDATE SET {SUMS} WHERE {beside} RETURNING 1 ) {insert} WHERE (SELECT count(*) FROM "
        f"counted) = %(owners)s{unless_known}"
    )


def added(connection: Asked, media: list[Media], quota: Quota, rowcount: int) -> bool:
    answer = Rows()
    answer.rowcount = rowcount
    connection._answers.append(answer)
    asked: Any = connection
    return add_at_once(asked, INSERT, media, quota)


@pytest.mark.parametrize("schema", [None, "app"])
def test_media_are_counted_and_added_by_one_statement(schema: str | None) -> None:
    media = [pending("bob", promised_size=700), pending("ann"), pending("bob")]
    connection = Asked(schema=schema)
    assert added(connection, media, UNLIMITED, 3)
    ((text, parameters),) = connection.statements
    like: Any = connection
    insert = INSERT.as_select(like, media)[0]
    place = "app.broker_usage" if schema else "broker_usage"
    assert text == statement_of("true", "true", insert, usage=place)
    assert json.loads(parameters.pop("requested")) == [
        {"owner": "bob", **Usage(2, 1700, 0, 2)._asdict()},
        {"owner": "ann", **Usage(1, 1000, 0, 1)._asdict()},
    ]
    assert [UUID(row["id"]) for row in json.loads(parameters.pop("rows"))] == [each.id for each in media]
    assert parameters == {"owners": 2}


def test_limits_and_used_keys_are_conditions_of_the_statement() -> None:
    media = [pending("ann", idempotency_key="k"), pending("ann")]
    connection = Asked()
    assert not added(connection, media, Quota(pending_count=5, stored_bytes=6000), 1)
    (text, parameters), rollback = connection.statements
    assert rollback[0] == "ROLLBACK"
    like: Any = connection
    assert text == statement_of(
        "requested.pending_count <= %(pending_count)s::numeric AND "
        "requested.stored_bytes + requested.promised_bytes <= %(stored_bytes)s::numeric",
        "usage.pending_count + excluded.pending_count <= %(pending_count)s::numeric AND "
        "usage.stored_bytes + usage.promised_bytes + excluded.stored_bytes + excluded.promised_bytes "
        "<= %(stored_bytes)s::numeric",
        INSERT.as_select(like, media)[0],
        " AND NOT EXISTS ( SELECT 1 FROM json_to_recordset(%(rows)s::json) AS added (owner text, idempotency_key text) "
        "JOIN broker_media AS media ON media.owner = added.owner AND media.idempotency_key = added.idempotency_key ) "
        "ON CONFLICT DO NOTHING",
    )
    assert {name: parameters[name] for name in ("owners", "pending_count", "stored_bytes")} == {
        "owners": 1,
        "pending_count": 5,
        "stored_bytes": 6000,
    }


@pytest.mark.parametrize(
    ("adds", "is_at_once"),
    [
        ([(None, UNLIMITED)], True),
        ([(None, UNLIMITED), (None, UNLIMITED)], True),
        ([("k", UNLIMITED), ("l", UNLIMITED)], True),
        ([("k", UNLIMITED), ("k", UNLIMITED)], False),
        ([(None, UNLIMITED), (None, Quota(media_count=1))], False),
    ],
    ids=str,
)
def test_media_with_one_quota_and_different_keys_are_added_at_once(adds: list[Any], is_at_once: bool) -> None:
    answer = Rows()
    answer.rowcount = len(adds)
    operations = [writes.Add(pending(idempotency_key=key), quota) for key, quota in adds]
    connection: Any = Asked(answer, Rows(), Rows([("ann", 0, 0, 0, 0)]))
    if is_at_once:
        assert writes.apply(connection, operations) == [add.media for add in operations]
        assert len(connection.statements) == 1
    else:
        writes.apply(connection, operations)
        assert not any(text.startswith("WITH counted") for text in connection.texts)


def test_rows_are_inserted_from_a_document_in_the_columns_that_are_filled() -> None:
    table = sa.Table(
        "things", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("order", sa.Text), sa.Column("size", sa.Text)
    )
    insert = PreparedInsert(table, ["id", "order", "size"])
    connection: Any = Asked()
    insert.run(connection, [])
    insert.run(connection, [(1, "a", None), (2, None, None)])
    insert.run(connection, [(3, "ü", "b")])
    assert [(text, json.loads(parameters["rows"])) for text, parameters in connection.statements] == [
        (
            'INSERT INTO things (id, "order") SELECT id, "order" FROM json_to_recordset(%(rows)s::json) AS rows '
            '(id INTEGER, "order" TEXT)',
            [{"id": 1, "order": "a"}, {"id": 2, "order": None}],
        ),
        (
            'INSERT INTO things (id, "order", size) SELECT id, "order", size FROM '
            'json_to_recordset(%(rows)s::json) AS rows (id INTEGER, "order" TEXT, size TEXT)',
            [{"id": 3, "order": "ü", "size": "b"}],
        ),
    ]


def test_an_instant_without_a_zone_is_refused_before_it_is_sent() -> None:
    connection: Any = Asked()
    with pytest.raises(ValueError, match="must be aware"):
        add_at_once(connection, INSERT, [pending(due_at=datetime(2026, 1, 1))], UNLIMITED)  # noqa: DTZ001
    assert not connection.statements


def test_a_name_that_is_written_by_hand_is_quoted() -> None:
    connection: Any = Asked(schema="My app")
    assert qualified(sa.table("order"), connection) == '"My app"."order"'  # type: ignore[arg-type]
    connection = Asked()
    assert qualified(sa.table("order"), connection) == '"order"'  # type: ignore[arg-type]


def test_ids_are_one_array() -> None:
    ids = [pending().id]
    compiled = is_among("ids", "postgresql").compile(dialect=Asked.dialect)
    assert str(compiled).startswith("broker_media.id = ANY (%(ids)s")
    process = compiled.binds["ids"].type.dialect_impl(Asked.dialect).bind_processor(Asked.dialect)
    assert process is None or list(process(ids)) == ids
