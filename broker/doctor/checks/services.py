"""The checks of the other services: the database, the token keys, Redis, and the targets of webhooks."""

import asyncio
import json
import shlex
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from broker.doctor.deployment import Patient
from broker.doctor.finding import Finding, fail, ok, warn
from broker.domain.access.jws import is_meant_for
from broker.domain.origin import bare
from broker.egress.proxy import is_address
from broker.egress.public_network import PublicNetwork
from broker.errors import DatabaseUnavailable, DatabaseUnusable, SettingsInvalid
from broker.store import pending_revision

DATABASE_SECONDS = 10.0
REDIS_SECONDS = 5.0


async def database(patient: Patient) -> Finding:
    """Check that the database answers and is migrated."""
    url = patient.deployment.database_url
    where = bare(url)
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            pending = await asyncio.to_thread(pending_revision, url, schema=patient.deployment.database_schema)
    except (DatabaseUnavailable, TimeoutError) as error:
        reason = type(error.__cause__.__cause__ if error.__cause__ else error).__name__
        return fail(
            "database",
            f"{where} does not answer ({reason})",
            cause="it is down, it cannot be reached from here, or its password is wrong",
            fix="psql \"$BROKER_DATABASE_URL\" -c 'select 1'",
            terraform="aws_db_instance of the example",
        )
    except DatabaseUnusable as error:
        return fail(
            "database",
            f"{where} cannot be opened and written ({error.facts['cause']})",
            cause="its directory does not exist, the broker may not write there, or the file is not a database",
            fix=shlex.join(["ls", "-ld", str(error.facts["path"])]),
        )
    except SettingsInvalid:
        return fail(
            "database",
            f"{where} is at a revision that this version does not support",
            cause="a newer version migrated it, or it belongs to another program",
            fix="install the version that migrated it, or a newer one",
        )
    if pending is not None:
        return fail(
            "database",
            f"{where} lacks revision {pending}",
            cause="this version was installed, but its migrations were not run",
            fix="broker migrate",
        )
    return ok("database", f"{where} answers, and has every migration")


async def token_keys(patient: Patient) -> Finding:
    """Check that the keys that verify tokens can be fetched."""
    url, algorithm = patient.deployment.jwks_url, patient.deployment.token_algorithm
    if url is None:
        return ok("token keys", f"{algorithm}, with a key from the settings")
    try:
        response = await patient.http.get(url, headers={"Accept": "application/json"})
    except httpx.HTTPError as error:
        cause = "it is down, it cannot be reached from here, or its certificate is not valid"
        return _no_keys(url, type(error).__name__, cause)
    if response.status_code != 200:
        return _no_keys(url, f"status {response.status_code}", "BROKER_JWKS_URL is not the provider's address")
    try:
        listed = json.loads(response.content)["keys"]
        usable = [key for key in listed if is_meant_for(key, algorithm)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return _no_keys(url, "no set of keys", "the address serves something else, such as an HTML page")
    if not usable:
        cause = "BROKER_JWT_ALGORITHM is not the provider's algorithm"
        return _no_keys(url, f"{len(listed)} keys, none for {algorithm}", cause)
    return ok("token keys", f"{len(usable)} for {algorithm} at {url}")


def _no_keys(url: str, detail: str, cause: str) -> Finding:
    return fail(
        "token keys",
        f"{url}: {detail}",
        cause=f"{cause}; no token can be verified",
        fix=f"curl -sv {url}  # the provider's /.well-known/openid-configuration has the right one as jwks_uri",
    )


async def redis(patient: Patient) -> Finding:
    """Check that Redis counts, on every node of a cluster."""
    url, count = patient.deployment.redis_url, patient.deployment.count_in_redis
    if url is None or count is None:
        return ok("rate limits", "counted by each process on its own (memory://)")
    where = bare(url)
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            await count(url)
    except SettingsInvalid as error:
        return fail(
            "rate limits",
            str(error),
            cause="no connection can be made, so neither `serve` nor `worker` starts",
            fix=f"export BROKER_RATE_LIMIT_STORAGE={where}  # with the user and password, and only valid options",
        )
    except Exception as error:
        reason = type(getattr(error, "storage_error", error)).__name__
        if reason in {"MovedError", "AskError"}:
            return fail(
                "rate limits",
                f"{where} is one node of a cluster ({reason})",
                cause="keys of the other nodes are refused, so each process counts on its own",
                fix="export BROKER_RATE_LIMIT_STORAGE=redis+cluster://host:port,host:port  # the nodes",
            )
        return fail(
            "rate limits",
            f"{where} does not answer ({reason})",
            cause="Redis is down, or refuses these credentials; meanwhile each process counts on its own",
            fix='redis-cli -u "$BROKER_RATE_LIMIT_STORAGE" ping',
        )
    return ok("rate limits", f"{where} counts for all processes")


async def webhooks(patient: Patient) -> Finding:
    """Check that the targets of webhooks are public and answer; no webhook is sent."""
    urls = patient.deployment.webhook_urls
    if not urls:
        return ok("webhooks", "none are set")
    if not patient.deployment.webhooks_on_loopback:
        private = [
            bare(url) for url, is_private in zip(urls, await _are_private(patient, urls), strict=True) if is_private
        ]
        if private:
            return fail(
                "webhooks",
                f"not public: {', '.join(private)}",
                cause="the host has an address that is neither public nor in BROKER_PRIVATE_NETWORKS",
                fix=f"getent ahosts {urlsplit(private[0]).hostname}  # then fix the DNS name, or BROKER_WEBHOOK_URLS",
            )
    silent = [bare(url) for url, is_silent in zip(urls, await _are_silent(patient, urls), strict=True) if is_silent]
    if not silent:
        return ok("webhooks", f"{len(urls)} targets answer")
    return warn(
        "webhooks",
        f"no answer from {', '.join(silent)}",
        cause="the target is down, or cannot be reached from here; deliveries wait and are retried",
        fix=f"curl -sv -X OPTIONS {silent[0]}",
    )


async def _are_private(patient: Patient, urls: Sequence[str]) -> list[bool]:
    """Return of each target whether it is private and in no listed network; a proxy resolves names itself."""
    network, proxy = PublicNetwork(private=patient.deployment.private_networks), patient.deployment.egress_proxy

    async def is_private(url: str) -> bool:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if proxy is not None and proxy.serves(host) and not is_address(host):
            return False
        try:
            entries = await asyncio.get_running_loop().getaddrinfo(host, parts.port or 443)
        except OSError:
            return False  # reported as a target that does not answer
        return not all(network.allows(str(address[0]).partition("%")[0]) for *_, address in entries)

    return await asyncio.gather(*(is_private(url) for url in urls))


async def _are_silent(patient: Patient, urls: Sequence[str]) -> list[bool]:
    async def is_silent(url: str) -> bool:
        try:
            return (await patient.http.options(url)).status_code >= 500
        except httpx.HTTPError:
            return True

    return await asyncio.gather(*(is_silent(url) for url in urls))
