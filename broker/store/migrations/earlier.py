"""Databases of earlier releases, whose tables were named `media`, `usage`, `outbox` and `disabled_target`.

Their revision was kept in `alembic_version`, which an application's own migrations use by default.
"""

import sqlalchemy as sa

from broker.errors import SettingsInvalid

VERSION_TABLE = "alembic_version"
REVISIONS = frozenset({"0001", "0002", "1001", "1002"})
"""The revisions that had the old names."""
TABLES = ("media", "usage", "outbox", "disabled_target")
_FIRST = {
    "media": {"owner", "state", "version", "promised_size", "promised_sha256", "policy_expires_at", "judgements"},
    "usage": {"owner", "pending_count", "promised_bytes", "stored_bytes", "media_count"},
}
"""Columns that the first revision made, by which the broker's tables are told from others of the same names."""
_GUARD = (
    "CREATE VIEW disabled_target AS SELECT 'The tables of s3-media-broker were renamed to broker_media and so on. This "
    "view stops `broker migrate` of an earlier release, which would create the old tables anew. Drop it once no such "
    "release can start any more.' AS message"
)
"""An earlier release that is started by mistake creates its tables in one transaction. This name makes it fail."""


def earlier_revision(connection: sa.Connection) -> str | None:
    """Return the revision of a database with the old names, or None if it has none of the broker's old tables.

    Raises SettingsInvalid if it has them, but does not name a revision of theirs.
    """
    inspector = sa.inspect(connection)
    for table, columns in _FIRST.items():
        if not inspector.has_table(table) or not columns <= {column["name"] for column in inspector.get_columns(table)}:
            return None
    if inspector.has_table(VERSION_TABLE):
        versions = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars()  # noqa: S608 ours
        if known := REVISIONS.intersection(versions):
            return max(known)
    raise SettingsInvalid(
        problems=f"BROKER_DATABASE_URL: has the tables of an earlier release (media, usage), but {VERSION_TABLE} names "
        f"no revision of theirs ({', '.join(sorted(REVISIONS))}); insert the right one, then migrate"
    )


def rename_tables(connection: sa.Connection, revision: str) -> None:
    """Give the tables, and what belongs to them, their present names, and remove `revision` from the old version table.

    On PostgreSQL only names change. SQLite builds the indexes again, and keeps the names of constraints.
    """
    for table in TABLES:
        if sa.inspect(connection).has_table(table):
            (_rename_on_sqlite if connection.dialect.name == "sqlite" else _rename_on_postgresql)(connection, table)
    connection.execute(
        sa.text(f"DELETE FROM {VERSION_TABLE} WHERE version_num = :revision"),  # noqa: S608 our name
        {"revision": revision},
    )
    if connection.execute(sa.text(f"SELECT count(*) FROM {VERSION_TABLE}")).scalar() == 0:  # noqa: S608 our name
        connection.execute(sa.text(f"DROP TABLE {VERSION_TABLE}"))
    connection.execute(sa.text(_GUARD))


def _rename_on_postgresql(connection: sa.Connection, table: str) -> None:
    inspector = sa.inspect(connection)
    keys = [inspector.get_pk_constraint(table), *inspector.get_check_constraints(table)]
    constraints = [str(constraint["name"]) for constraint in keys]
    indexes = [str(index["name"]) for index in inspector.get_indexes(table)]
    statements = [
        *(f"ALTER TABLE {table} RENAME CONSTRAINT {name} TO {_present(name, table)}" for name in constraints),
        *(f"ALTER INDEX {name} RENAME TO {_present(name, table)}" for name in indexes),
        f"ALTER TABLE {table} RENAME TO broker_{table}",
    ]
    for statement in statements:
        connection.exec_driver_sql(statement)


def _rename_on_sqlite(connection: sa.Connection, table: str) -> None:
    indexes = connection.execute(
        sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = :table AND sql IS NOT NULL"),
        {"table": table},
    ).all()
    for name, _ in indexes:
        connection.exec_driver_sql(f"DROP INDEX {name}")
    connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO broker_{table}")
    for name, sql in indexes:
        connection.exec_driver_sql(
            sql.replace(f"INDEX {name} ON {table} ", f"INDEX {_present(name, table)} ON broker_{table} ", 1)
        )


def _present(name: str, table: str) -> str:
    """Return the present name of an index or a constraint: `ix_media_due` is now `ix_broker_media_due`."""
    return name.replace(f"_{table}", f"_broker_{table}", 1)
