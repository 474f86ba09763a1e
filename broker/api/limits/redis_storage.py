"""The Redis behind an address: one server, a cluster, or the primary that Sentinels name; Valkey speaks the same.

The forms are those of the library `limits` (its documentation, "Storage Backends"), and `rediss+…` for TLS.
"""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from limits.aio.storage import RedisClusterStorage, RedisSentinelStorage, RedisStorage
from limits.errors import StorageError
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisClusterException, RedisError

from broker.errors import SettingsInvalid

CONNECTIONS = 16
ANSWER_SECONDS = 2.0
"""How long Redis may take to connect, and to answer."""
FAILURES = (TimeoutError, OSError, StorageError, RedisClusterException)
"""The errors of a Redis that is unavailable, or refuses a command. `limits` wraps subclasses of RedisError in its
StorageError; a cluster without reachable nodes or with uncovered slots raises RedisClusterException, which is none."""
SLOTS = 16
"""How many keys a check counts in. They are spread over the nodes of a cluster."""


def open_storage(url: str) -> RedisStorage:
    """Return the storage at an address; nothing is connected yet. Close it by `close_storage`.

    Raises SettingsInvalid for an option in the address that a connection does not have, or with an invalid value.
    """
    scheme, _, place = url.partition("://")
    scheme = scheme.replace("valkey", "redis", 1)
    common: dict[str, Any] = {"wrap_exceptions": True, "implementation": "redispy"}
    timeouts: dict[str, Any] = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    tls = {"ssl": True} if scheme.startswith("rediss") else {}
    match scheme.partition("+")[2]:
        case "cluster":
            user, place = _user_of(place)
            options = common | timeouts | tls | user | {"max_connections": CONNECTIONS}
            return RedisClusterStorage(f"async+redis+cluster://{place}", **options)
        case "sentinel":
            user, place = _user_of(place)
            options = common | timeouts | tls | user | {"use_replicas": False, "sentinel_kwargs": timeouts | tls}
            return RedisSentinelStorage(f"async+redis+sentinel://{place}", **options)
        case "unix":
            address = f"unix://{place}"
        case _:
            address = f"{scheme}://{place}"
    try:
        pool = BlockingConnectionPool.from_url(address, max_connections=CONNECTIONS, timeout=ANSWER_SECONDS, **timeouts)
        pool.make_connection()  # type: ignore[no-untyped-call]  # connects nothing, but checks the options
    except (AttributeError, TypeError, ValueError, RedisError):
        names = ", ".join(sorted({name for name, _ in parse_qsl(urlsplit(address).query, keep_blank_values=True)}))
        raise SettingsInvalid(
            problems="BROKER_RATE_LIMIT_STORAGE: should have only options of redis-py's connections, with valid values "
            f"(it has {names}); TLS is rediss:// instead of redis://"
        ) from None
    return RedisStorage("async+redis://", **common | {"connection_pool": pool})


def _user_of(place: str) -> tuple[dict[str, Any], str]:
    """Return the options of the user in an address, and the hosts behind it; the library would not decode it."""
    user, _, hosts = place.rpartition("@")
    name, _, password = user.partition(":")
    given = {"username": unquote(name), "password": unquote(password)}
    return {option: value for option, value in given.items() if value}, hosts


async def close_storage(storage: RedisStorage) -> None:
    """Close the connections of a storage."""
    client: Any = storage.bridge.get_connection()  # type: ignore[attr-defined]
    await client.aclose()
    if (pool := storage.options.get("connection_pool")) is not None:
        await pool.disconnect()  # type: ignore[union-attr]


def reason_of(error: Exception) -> str:
    """Return the class of the error below the library's own."""
    return type(getattr(error, "storage_error", error)).__name__


async def count_everywhere(url: str) -> None:
    """Count in keys on every node of a Redis. Raises one of FAILURES if it is unavailable or refuses."""
    storage = open_storage(url)
    try:
        for number in range(SLOTS):
            await storage.incr(f"s3-media/doctor/{number}", 1)
    finally:
        await close_storage(storage)
