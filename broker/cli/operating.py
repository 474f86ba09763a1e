"""The settings of an operator's command, its log on standard error, and a store that is migrated."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.store import Store


def operator_settings() -> "Settings":
    """Return the settings, and log from now on to standard error. Raises SettingsInvalid."""
    from broker.settings import load_settings

    return logged(load_settings())


def logged(settings: "Settings") -> "Settings":
    """Log warnings to standard error without the deployment's secrets; standard output holds results alone."""
    from broker.logs import configure_logging

    configure_logging("warning", secrets=settings.secrets(), stream=sys.stderr, pretty=True)
    return settings


def require_migrated(settings: "Settings") -> None:
    """Raise DatabaseBehind before `broker migrate`, and DatabaseUnavailable."""
    from broker.store import require_current

    require_current(settings.database_url, schema=settings.database_schema)


@asynccontextmanager
async def migrated_store(settings: "Settings") -> "AsyncIterator[Store]":
    """Yield the store. Raises DatabaseBehind before `broker migrate`, and DatabaseUnavailable."""
    from broker.wiring import open_store

    require_migrated(settings)
    store = open_store(settings)
    try:
        yield store
    finally:
        await store.close()
