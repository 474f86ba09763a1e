"""The wiring: it alone builds the store, the bucket, the verbs and the jobs from the settings.

The clients of JWKS addresses, webhooks and Redis are imported only if the settings need them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from broker.api.auth.caller import ClaimNames
from broker.api.auth.form_states import FormStates
from broker.api.auth.keys import FixedKey, public_key
from broker.api.auth.tokens import Authenticator, RememberedTokens, TokenRules
from broker.api.auth.upload_tokens import UploadTokens
from broker.api.limits.limits import Limits
from broker.api.state import Services
from broker.aws.bucket import Bucket, BucketConfig
from broker.aws.health import Health
from broker.aws.queue import Queue, QueueConfig
from broker.clock import Clock, utc_now
from broker.domain.access.rate import rate_of
from broker.domain.announcement import ON_READY
from broker.errors import SettingsInvalid
from broker.lifecycle.application.deciding import Deciding, IssueHandler
from broker.lifecycle.erasure import Erasure
from broker.lifecycle.probe import Probe
from broker.lifecycle.settlement import Settlement
from broker.lifecycle.token_verbs import TokenVerbs
from broker.lifecycle.verbs import Lifecycle
from broker.lifecycle.waiting import Waiting
from broker.settings import Settings
from broker.store import Store
from broker.worker.events import Events
from broker.worker.jobs import Job, Jobs
from broker.worker.sweep import Sweep
from broker.worker.tidying import Tidying

if TYPE_CHECKING:
    from broker.api.auth.jwks import Jwks
    from broker.api.limits.redis import RedisWindows
    from broker.egress.proxy import EgressProxy
    from broker.lifecycle.application.issue_hook import IssueHook
    from broker.worker.ready_calls import ReadyHandler
    from broker.worker.sender import Sender


@dataclass(frozen=True, slots=True)
class Hooks:
    """The functions of a host application."""

    on_issue: IssueHandler | None = None
    on_ready: "ReadyHandler | None" = None

    def check(self, settings: Settings) -> None:
        """Raise SettingsInvalid if the settings contradict the functions."""
        if self.on_issue is not None and settings.issue_hook_url is not None:
            raise SettingsInvalid(problems="BROKER_ISSUE_HOOK_URL: should not be set if on_issue is given")
        if self.on_ready is not None and not settings.sweep:
            raise SettingsInvalid(
                problems="BROKER_SWEEP: should be true if on_ready is given, because only the application's own "
                "processes can call it; do not run `broker worker` beside them"
            )


NO_HOOKS = Hooks()
ISSUE_HOOK_CONNECTIONS = 256
"""The maximum number of questions in flight in one process; a further one waits, within its own time."""


@asynccontextmanager
async def running(
    settings: Settings, *, clock: Clock = utc_now, hooks: Hooks = NO_HOOKS
) -> AsyncIterator[tuple[Services, Jobs]]:
    """Open the services of the verbs and jobs, and close them on exit, in reverse order.

    A failed start closes the services that it opened.
    """
    async with AsyncExitStack() as stack:
        bucket = await asyncio.to_thread(Bucket, bucket_config(settings))
        stack.push_async_callback(bucket.close)
        store = open_store(settings, clock, announce_to=(ON_READY,) if hooks.on_ready is not None else ())
        stack.push_async_callback(store.close)
        keys = await asyncio.to_thread(_token_keys, settings)
        if not isinstance(keys, FixedKey):
            stack.push_async_callback(keys.close)
        limits = _limits(settings)
        stack.push_async_callback(limits.close)
        settlement = Settlement(
            store,
            bucket,
            grace=timedelta(seconds=settings.grace_seconds),
            probe=video_probe(settings),
            max_video_seconds=settings.max_video_duration_seconds,
            clock=clock,
        )
        stack.push_async_callback(settlement.close)
        deciding = _deciding(settings, hooks, stack)
        verbs = Lifecycle(
            store,
            bucket,
            settlement=settlement,
            rules=settings.rules,
            quota=settings.quota,
            policy_seconds=settings.policy_seconds,
            deciding=deciding,
            resumable_seconds=settings.resumable_seconds,
            clock=clock,
        )
        erasure = Erasure(store, settlement, clock=clock)
        services = Services(
            lifecycle=verbs,
            erasure=erasure,
            token_verbs=TokenVerbs(verbs),
            waiting=Waiting(store),
            authenticator=Authenticator(
                keys,
                token_rules(settings),
                RememberedTokens(size=settings.token_memory_size, seconds=settings.token_memory_seconds),
            ),
            limits=limits,
            form_states=FormStates(settings.secret_key.get_secret_value()),
            upload_tokens=UploadTokens(settings.secret_key.get_secret_value(), clock),
            health=Health(bucket),
            store=store,
            public_url=settings.public_url,
            rules=settings.rules,
        )
        jobs: list[Job] = [
            Sweep(store, settlement, rest_seconds=settings.sweep_seconds, clock=clock),
            Tidying(store, erasure, keep=settings.kept_records, rest_seconds=settings.sweep_seconds, clock=clock),
        ]
        if settings.sqs_queue_url:
            queue = await asyncio.to_thread(Queue, queue_config(settings))
            stack.push_async_callback(asyncio.to_thread, queue.close)
            jobs.append(Events(queue, verbs, bucket_name=settings.bucket_name, clock=clock))
        if settings.webhook_urls:
            from broker.worker.webhooks import Webhooks

            sender = webhook_sender(settings)
            stack.push_async_callback(sender.close)
            jobs.append(Webhooks(store.outbox, sender, settings.webhook_urls, clock=clock))
        if hooks.on_ready is not None:
            from broker.worker.ready_calls import ReadyCalls
            from broker.worker.webhooks import Webhooks

            jobs.append(Webhooks(store.outbox, ReadyCalls(hooks.on_ready), (ON_READY,), clock=clock))
        yield services, Jobs(jobs)


def open_store(settings: Settings, clock: Clock = utc_now, *, announce_to: tuple[str, ...] = ()) -> Store:
    """Return the store; it records the announcements for the configured webhooks, and for `announce_to`."""
    return Store(
        settings.database_url,
        pool_size=settings.database_pool_size,
        timeout_seconds=settings.database_timeout_seconds,
        schema=settings.database_schema,
        announce_to=(*settings.webhook_urls, *announce_to),
        clock=clock,
    )


def webhook_sender(settings: Settings) -> "Sender":
    """Return the sender of webhooks, which connects to public addresses and the listed networks only."""
    from broker.egress.public_network import PublicNetwork
    from broker.worker.sender import Sender

    network = PublicNetwork(loopback=settings.webhook_loopback_http, private=settings.private_networks)
    return Sender(_revealed(settings.webhook_secrets), network, proxy=egress_proxy(settings))


def egress_proxy(settings: Settings) -> "EgressProxy | None":
    """Return the proxy for requests to the operator's own servers, or None."""
    if settings.proxy_url is None:
        return None
    from broker.egress.proxy import EgressProxy

    return EgressProxy(settings.proxy_url, settings.no_proxy)


def issue_hook(settings: Settings, clock: Clock = utc_now) -> "IssueHook | None":
    """Return the hook that asks the application about uploads, or None if there is none."""
    if settings.issue_hook_url is None:
        return None
    from broker.egress.public_network import PublicNetwork
    from broker.egress.signed_posts import SignedPosts
    from broker.lifecycle.application.issue_hook import IssueHook

    network = PublicNetwork(loopback=settings.issue_hook_loopback_http, private=settings.private_networks)
    secrets, count = _revealed(settings.issue_hook_secrets), ISSUE_HOOK_CONNECTIONS
    proxy = egress_proxy(settings)
    posts = SignedPosts(secrets, network, connections=count, idle_connections=count, proxy=proxy)
    return IssueHook(settings.issue_hook_url, posts, clock=clock)


def _deciding(settings: Settings, hooks: Hooks, stack: AsyncExitStack) -> Deciding | None:
    handler = hooks.on_issue
    if (hook := issue_hook(settings)) is not None:
        stack.push_async_callback(hook.close)
        handler = hook
    return None if handler is None else Deciding(handler, seconds=settings.issue_hook_seconds)


def _revealed(secrets: tuple[SecretStr, ...]) -> list[str]:
    return [secret.get_secret_value() for secret in secrets]


def video_probe(settings: Settings) -> Probe | None:
    """Return the probe of videos, or None if it is off. Raises SettingsInvalid if ffprobe is missing."""
    return Probe(settings.probe_program, timeout_seconds=settings.probe_seconds) if settings.probe else None


def token_rules(settings: Settings) -> TokenRules:
    """Return the rules by which tokens are accepted."""
    return TokenRules(
        algorithm=settings.algorithm,
        issuers=settings.jwt_issuer,
        audiences=settings.jwt_audience,
        audience_claim=settings.jwt_audience_claim,
        leeway_seconds=settings.jwt_leeway_seconds,
        claims=ClaimNames(
            owner=settings.jwt_owner_claim,
            permissions=settings.jwt_permission_claims,
            prefix=settings.jwt_permission_prefix,
            default=frozenset(settings.jwt_default_permissions),
        ),
    )


def _token_keys(settings: Settings) -> "FixedKey | Jwks":
    if settings.jwks_url is not None:
        from broker.api.auth.jwks import Jwks

        proxy = egress_proxy(settings)
        through = proxy.url if proxy and proxy.serves(urlsplit(settings.jwks_url).hostname or "") else None
        return Jwks(settings.jwks_url, settings.algorithm, fresh_seconds=settings.jwks_fresh_seconds, proxy_url=through)
    if settings.jwt_public_key is not None:
        return FixedKey(public_key(settings.jwt_public_key, settings.algorithm))
    return FixedKey(settings.secret_key.get_secret_value().encode())


def _limits(settings: Settings) -> Limits:
    return Limits(
        {
            "address": rate_of(settings.rate_limit_address),
            "issue": rate_of(settings.rate_limit_issue),
            "complete": rate_of(settings.rate_limit_complete),
            "parts": rate_of(settings.rate_limit_parts),
            "playback": rate_of(settings.rate_limit_playback),
            "delete": rate_of(settings.rate_limit_delete),
            "form": rate_of(settings.rate_limit_form),
            "health": rate_of(settings.rate_limit_health),
        },
        redis=None if settings.redis_url is None else _redis_windows(settings.redis_url),
    )


def _redis_windows(url: str) -> "RedisWindows":
    from broker.api.limits.redis import RedisWindows

    return RedisWindows(url)


def bucket_config(settings: Settings) -> BucketConfig:
    """Return the bucket's part of the settings."""
    return BucketConfig(
        name=settings.bucket_name,
        region=settings.region,
        endpoint_url=settings.s3_endpoint_url,
        public_endpoint_url=settings.s3_public_endpoint_url,
        path_style=settings.s3_path_style,
        dual_stack=settings.s3_dual_stack,
        fips=settings.s3_fips,
        properties=settings.object_properties,
        is_aws=settings.cloud_storage_provider == "aws",
        credentials=settings.credentials,
        timeout_seconds=settings.s3_timeout_seconds,
        pool_size=settings.s3_pool_size,
        cloudfront=settings.cloudfront,
    )


def queue_config(settings: Settings) -> QueueConfig:
    """Return the queue's part of the settings."""
    return QueueConfig(
        url=settings.sqs_queue_url or "",
        region=settings.region,
        endpoint_url=settings.sqs_endpoint_url,
        credentials=settings.credentials,
        timeout_seconds=settings.s3_timeout_seconds,
    )
