"""The tables of a database, as they can be compared."""

from typing import Any

import sqlalchemy as sa


def reflected(engine: sa.Engine, *, constraint_names: bool = True) -> dict[str, Any]:
    """Return the reflected tables, except Alembic's, with or without the names of their constraints."""
    inspector = sa.inspect(engine)
    tables = {}
    for name in set(inspector.get_table_names()) - {"broker_version"}:
        key = inspector.get_pk_constraint(name)
        checks = inspector.get_check_constraints(name)
        tables[name] = {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"], column["default"])
                for column in inspector.get_columns(name)
            ],
            "primary key": key if constraint_names else key["constrained_columns"],
            "checks": sorted((constraint_names and str(check["name"]), check["sqltext"]) for check in checks),
            "indexes": sorted(
                (
                    index["name"],
                    index["column_names"],
                    bool(index["unique"]),
                    [str(where) for option, where in index.get("dialect_options", {}).items() if "where" in option],
                )
                for index in inspector.get_indexes(name)
            ),
        }
    return tables
