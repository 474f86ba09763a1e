"""What else the broker depends on: its database, the keys that verify tokens, Redis, the targets of webhooks."""

import asyncio
import json
import shlex
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx

from broker.doctor.deployment import Patient
from broker.doctor.finding import Finding, fail, ok, warn
from broker.errors import DatabaseUnavailable, DatabaseUnusable, SettingsInvalid
from broker.store import pending_revision

DATABASE_SECONDS = 10.0
REDIS_SECONDS = 5.0
KEY_TYPES = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
"""Which kind of key verifies what (RFC 7518, section 6.1; RFC 8037)."""


async def database(patient: Patient) -> Finding:
    """Ask the database for its revision."""
    url = patient.deployment.database_url
    where = place(url)
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            pending = await asyncio.to_thread(pending_revision, url)
    except (DatabaseUnavailable, TimeoutError) as error:
        reason = type(error.__cause__.__cause__ if error.__cause__ else error).__name__
        return fail(
            "database",
            f"{where} does not answer ({reason})",
            cause="it is down, no route leads to it, or its password is wrong",
            mend="psql \"$BROKER_DATABASE_URL\" -c 'select 1'",
            terraform="aws_db_instance of the example",
        )
    except DatabaseUnusable as error:
        return fail(
            "database",
            f"{where} cannot be opened and written ({error.facts['cause']})",
            cause="its directory is not there, the broker may not write it, or the file is something else",
            mend=shlex.join(["ls", "-ld", str(error.facts["path"])]),
        )
    except SettingsInvalid:
        return fail(
            "database",
            f"{where} is at a revision that this version cannot live with",
            cause="a newer version migrated it, or it is another program's",
            mend="install the version that migrated it, or a newer one",
        )
    if pending is not None:
        return fail(
            "database",
            f"{where} lacks revision {pending}",
            cause="this version of the broker was installed, and its migrations were not run",
            mend="broker migrate",
        )
    return ok("database", f"{where} answers, and has every migration")


async def token_keys(patient: Patient) -> Finding:
    """Fetch the keys that verify tokens, as the broker does."""
    url, algorithm = patient.deployment.jwks_url, patient.deployment.token_algorithm
    if url is None:
        return ok("token keys", f"{algorithm}, with a key of the settings")
    try:
        answer = await patient.http.get(url, headers={"Accept": "application/json"})
    except httpx.HTTPError as error:
        return _no_keys(url, type(error).__name__, "it is down, no route leads to it, or its certificate is not valid")
    if answer.status_code != 200:
        return _no_keys(url, f"status {answer.status_code}", "BROKER_JWKS_URL is another address than the provider's")
    try:
        listed = json.loads(answer.content)["keys"]
        usable = [key for key in listed if key.get("kty") == KEY_TYPES[algorithm] and key.get("use", "sig") == "sig"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return _no_keys(url, "no set of keys", "the address shows something else, such as a page for people")
    if not usable:
        return _no_keys(url, f"{len(listed)} keys, none for {algorithm}", "BROKER_JWT_ALGORITHM is not the provider's")
    return ok("token keys", f"{len(usable)} for {algorithm} at {url}")


def _no_keys(url: str, seen: str, cause: str) -> Finding:
    return fail(
        "token keys",
        f"{url}: {seen}",
        cause=f"{cause}; no token can be verified",
        mend=f"curl -sv {url}  # the provider's /.well-known/openid-configuration names the right one as jwks_uri",
    )


async def redis(patient: Patient) -> Finding:
    """Ask Redis for a sign of life."""
    url = patient.deployment.redis_url
    if url is None:
        return ok("rate limits", "counted by each process for itself (memory://)")
    where = place(url)
    from redis.asyncio import Redis  # an optional dependency, which the settings have asked for
    from redis.exceptions import RedisError

    client = Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        return fail(
            "rate limits",
            f"{where} does not answer ({type(error).__name__})",
            cause="Redis is down, or refuses these credentials; each process counts by itself meanwhile",
            mend='redis-cli -u "$BROKER_RATE_LIMIT_STORAGE" ping',
        )
    finally:
        await client.aclose()
    return ok("rate limits", f"{where} counts for all processes")


async def webhooks(patient: Patient) -> Finding:
    """Look whether something public listens where webhooks go; none is sent."""
    urls = patient.deployment.webhook_urls
    if not urls:
        return ok("webhooks", "none are set")
    if not patient.deployment.webhooks_on_loopback:
        private = [place(url) for url, is_private in zip(urls, await _are_private(urls), strict=True) if is_private]
        if private:
            return fail(
                "webhooks",
                f"not public: {', '.join(private)}",
                cause="the worker tells public addresses alone, and the name leads to another one",
                mend=f"getent ahosts {urlsplit(private[0]).hostname}  # then mend the name, or BROKER_WEBHOOK_URLS",
            )
    silent = [place(url) for url, is_silent in zip(urls, await _are_silent(patient, urls), strict=True) if is_silent]
    if not silent:
        return ok("webhooks", f"{len(urls)} targets answer")
    return warn(
        "webhooks",
        f"no answer from {', '.join(silent)}",
        cause="the target is down, or no route leads to it; deliveries wait and are tried again",
        mend=f"curl -sv -X OPTIONS {silent[0]}",
    )


async def _are_private(urls: Sequence[str]) -> list[bool]:
    async def is_private(url: str) -> bool:
        parts = urlsplit(url)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port or 443)
        except OSError:
            # Nobody is there; that is told as silence.
            return False
        return any(not ip_address(str(address[0]).partition("%")[0]).is_global for *_, address in found)

    return await asyncio.gather(*(is_private(url) for url in urls))


async def _are_silent(patient: Patient, urls: Sequence[str]) -> list[bool]:
    async def is_silent(url: str) -> bool:
        try:
            return (await patient.http.options(url)).status_code >= 500
        except httpx.HTTPError:
            return True

    return await asyncio.gather(*(is_silent(url) for url in urls))


def place(url: str) -> str:
    """Return an address without its user, password and query."""
    parts = urlsplit(url)
    if not parts.hostname:
        return f"{parts.scheme}://{parts.path}"
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"
