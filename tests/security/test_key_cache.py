"""Keys that verify tokens, without an application: the cache of published keys by a clock that tests move, and PEM."""

import asyncio
import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from freezegun import freeze_time
from structlog.testing import capture_logs

from broker.api.auth import jwks
from broker.api.auth.jwks import COOLDOWN_SECONDS, FETCHES_IN_A_ROW, MAX_BYTES, MAX_KEYS, STALE_SECONDS, Jwks
from broker.api.auth.keys import FixedKey, fits, public_key, published_key
from broker.api.auth.tokens import Authenticator, RememberedTokens, TokenRules
from broker.errors import KeysUnavailable, NotAuthenticated, SettingsInvalid
from tests.security import keys
from tests.security.forging import claims, rs256
from tests.security.key_server import KeyServer, running_key_server

FRESH = 300.0
MEMORY = 60.0
NEVER = 4_000_000_000
P384, P521 = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1())
NOW, NEXT = keys.jwk(keys.PROVIDER, "now"), keys.jwk(keys.NEXT, "next")


class Hand:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def provider() -> Iterator[KeyServer]:
    with running_key_server() as provider:
        provider.keys = [NOW]
        yield provider


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
async def cache(provider: KeyServer, clock: Hand) -> AsyncIterator[Jwks]:
    cache = Jwks(provider.url, "RS256", fresh_seconds=FRESH, clock=clock)
    yield cache
    await cache.close()


async def is_known(cache: Jwks, key_id: str | None) -> bool:
    try:
        await cache.key(key_id)
    except NotAuthenticated:
        return False
    return True


async def settled(cache: Jwks) -> None:
    """Return once no fetch is under way."""
    while cache._fetching is not None:
        await asyncio.wait({cache._fetching})
        await asyncio.sleep(0)


async def test_keys_are_fetched_once_and_again_when_they_are_no_longer_fresh(
    cache: Jwks, provider: KeyServer, clock: Hand
) -> None:
    for passed, fetches in ((0, 1), (FRESH, 1), (0.1, 2), (FRESH, 2)):
        clock.at += passed
        key = await cache.key("now")
        await settled(cache)
        assert (key.key_size, provider.fetches) == (2048, fetches)


async def test_a_token_without_an_id_gets_the_only_key(cache: Jwks, provider: KeyServer, clock: Hand) -> None:
    assert await is_known(cache, None)
    provider.keys = [NOW, NEXT]
    clock.at += FRESH + 1
    assert await is_known(cache, "next")
    assert not await is_known(cache, None)
    clock.at += FRESH + 1
    provider.keys = [{name: value for name, value in NOW.items() if name != "kid"}, NEXT]
    assert await is_known(cache, None)


async def test_unknown_ids_cause_some_fetches_at_once_then_one_in_each_cooldown(
    cache: Jwks, provider: KeyServer, clock: Hand
) -> None:
    fetches = []
    for passed in (0, 0, 0, 0, 0, COOLDOWN_SECONDS - 0.1, 0.1, 0, COOLDOWN_SECONDS, 0, 10 * COOLDOWN_SECONDS, 0, 0, 0):
        clock.at += passed
        for _ in range(3):
            clock.at += 0.001
            assert not await is_known(cache, str(uuid4()))
        fetches.append(provider.fetches)
    assert fetches[:5] == [FETCHES_IN_A_ROW] * 5
    assert fetches[5] == FETCHES_IN_A_ROW
    assert fetches[6:8] == [FETCHES_IN_A_ROW + 1] * 2
    assert fetches[8:10] == [FETCHES_IN_A_ROW + 2] * 2
    assert fetches[10:] == [2 * FETCHES_IN_A_ROW + 2] * 4


async def test_a_token_by_an_unknown_key_is_not_valid(cache: Jwks) -> None:
    with pytest.raises(NotAuthenticated) as refused:
        await cache.key("other")
    assert refused.value.facts == {"reason": "the token is not valid", "token_sent": True}


async def test_an_unknown_id_is_looked_for_once_in_a_cooldown(cache: Jwks, provider: KeyServer, clock: Hand) -> None:
    for passed, fetches in ((0, 1), (0, 1), (COOLDOWN_SECONDS - 0.1, 1), (0.1, 2), (0, 2)):
        clock.at += passed
        assert not await is_known(cache, "other")
        assert provider.fetches == fetches


async def test_a_bounded_number_of_unknown_ids_is_remembered(
    cache: Jwks, provider: KeyServer, clock: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "MAX_ABSENT", 2)
    monkeypatch.setattr(jwks, "FETCHES_IN_A_ROW", 100)
    for kid, fetches in [("a", 1), ("b", 2), ("b", 2), ("a", 2), ("c", 3), ("b", 3), ("a", 4)]:
        clock.at += 0.001
        assert not await is_known(cache, kid)
        assert provider.fetches == fetches, kid


async def test_a_key_that_rotates_is_found_at_once(cache: Jwks, provider: KeyServer, clock: Hand) -> None:
    assert await is_known(cache, "now")
    assert cache.generation == 0
    provider.keys = [NOW, NEXT]
    clock.at += 1
    assert await is_known(cache, "next")
    assert cache.generation == 0  # no token became invalid
    provider.keys = [NEXT]
    clock.at += FRESH + 1
    await cache.key("next")
    await settled(cache)
    assert cache.generation == 1
    assert not await is_known(cache, "now")
    provider.keys = [keys.jwk(keys.ATTACKER, "next")]
    clock.at += FRESH + 1
    await cache.key("next")
    await settled(cache)
    assert cache.generation == 2  # the same id names another key


async def test_a_key_that_is_no_longer_fresh_is_not_used_before_it_is_fetched_again(
    cache: Jwks, provider: KeyServer, clock: Hand
) -> None:
    assert await is_known(cache, "now")
    provider.keys = [NEXT]
    clock.at += FRESH + 1
    assert not await is_known(cache, "now")


async def test_a_withdrawn_key_is_valid_for_the_time_of_both_caches_together(provider: KeyServer) -> None:
    token = rs256(claims(exp=NEVER), keys.PROVIDER, {"alg": "RS256", "kid": "now"})
    with freeze_time(real_asyncio=True) as frozen:
        cache = Jwks(provider.url, "RS256", fresh_seconds=FRESH, clock=lambda: time.time())
        verifier = Authenticator(cache, TokenRules(algorithm="RS256"), RememberedTokens(size=1, seconds=MEMORY))
        assert await is_known(cache, "now")
        provider.keys = [NEXT]
        for passed in (FRESH, MEMORY - 1):
            frozen.tick(passed)
            assert (await verifier.caller(token)).owner == "anna"
        frozen.tick(1)
        with pytest.raises(NotAuthenticated):
            await verifier.caller(token)
        await cache.close()
    assert provider.fetches == 2


async def test_waiting_requests_share_a_fetch_and_one_that_began_later_is_not_fobbed_off(
    cache: Jwks, provider: KeyServer, clock: Hand
) -> None:
    provider.delay.clear()
    first = [asyncio.create_task(cache.key("now")) for _ in range(5)]
    while not provider.fetches:
        await asyncio.sleep(0.001)
    clock.at += 1
    provider.keys = [NOW, NEXT]
    later = asyncio.create_task(cache.key("next"))
    await asyncio.sleep(0.01)
    provider.delay.set()
    assert len({(await task).public_numbers().n for task in first}) == 1
    assert (await later).key_size == 2048
    assert provider.fetches == 2


async def test_a_cancelled_request_does_not_cancel_the_fetch_of_others(cache: Jwks, provider: KeyServer) -> None:
    provider.delay.clear()
    impatient, patient = (asyncio.create_task(cache.key("now")) for _ in range(2))
    while not provider.fetches:
        await asyncio.sleep(0.001)
    impatient.cancel()
    await asyncio.wait({impatient})
    provider.delay.set()
    assert (await patient).key_size == 2048


async def test_cached_keys_outlive_an_outage_by_a_day(cache: Jwks, provider: KeyServer, clock: Hand) -> None:
    assert await is_known(cache, "now")
    fetched_at = clock.at
    provider.status = 503
    clock.at = fetched_at + FRESH + 1
    with capture_logs() as logs:
        assert await is_known(cache, "now")
        with pytest.raises(KeysUnavailable):
            await cache.key("other")
    assert logs[0] == {
        "event": "the keys that verify tokens could not be fetched",
        "log_level": "warning",
        "reason": "ValueError",
    }
    provider.delay.clear()
    for age in (STALE_SECONDS - 1, STALE_SECONDS):
        clock.at = fetched_at + age
        assert await is_known(cache, "now")  # without waiting for the provider
    provider.delay.set()
    await settled(cache)
    assert cache.generation == 0
    clock.at = fetched_at + STALE_SECONDS + 0.1
    with pytest.raises(KeysUnavailable):
        await cache.key("now")
    assert cache.generation == 1
    with pytest.raises(KeysUnavailable):
        await cache.key("now")
    assert cache.generation == 1
    provider.status = 200
    clock.at += COOLDOWN_SECONDS
    assert await is_known(cache, "now")


async def test_a_failure_is_not_taken_for_the_absence_of_a_key(cache: Jwks, provider: KeyServer, clock: Hand) -> None:
    assert await is_known(cache, "now")
    provider.status = 503
    clock.at += 1
    with pytest.raises(KeysUnavailable):
        await cache.key("next")
    provider.status, provider.keys = 200, [NOW, NEXT]
    clock.at += 1
    assert await is_known(cache, "next")


def compressed(document: bytes, wbits: int) -> bytes:
    packing = zlib.compressobj(wbits=wbits)
    return packing.compress(document) + packing.flush()


WHOLE = json.dumps({"keys": [NOW]}).encode()
PADDED = WHOLE + b" " * (MAX_BYTES - len(WHOLE))
GZIPPED = gzip.compress(WHOLE)


@pytest.mark.parametrize(
    ("body", "headers", "is_read"),
    [
        (WHOLE, {}, True),
        (WHOLE, {"Content-Encoding": "Identity"}, True),
        (GZIPPED, {"Content-Encoding": "gzip"}, True),
        (GZIPPED, {"Content-Encoding": "X-GZIP"}, True),
        (PADDED, {}, True),
        (PADDED + b" ", {}, False),
        (gzip.compress(PADDED), {"Content-Encoding": "gzip"}, True),
        (gzip.compress(PADDED + b" "), {"Content-Encoding": "gzip"}, False),
        (compressed(WHOLE, zlib.MAX_WBITS), {"Content-Encoding": "gzip"}, False),
        (GZIPPED[:-1], {"Content-Encoding": "gzip"}, False),
        (WHOLE, {"Content-Encoding": "gzip"}, False),
        (WHOLE, {"Content-Encoding": "br"}, False),
        (json.dumps({"keys": [NOW] * MAX_KEYS}).encode(), {}, True),
        (json.dumps({"keys": [NOW] * (MAX_KEYS + 1)}).encode(), {}, False),
        (json.dumps({"keys": [7, {"kid": 7}, NOW]}).encode(), {}, True),
        (json.dumps({"keys": [NOW | {"kid": 7}]}).encode(), {}, False),
        (json.dumps([NOW]).encode(), {}, False),
        (json.dumps({"keys": NOW}).encode(), {}, False),
        (b"{}", {}, False),
        (b"[" * 100_000, {}, False),
    ],
    ids=[
        "plain",
        "named as plain",
        "packed",
        "packed, by its old name",
        "as large as allowed",
        "too large",
        "as large as allowed, packed",
        "too large, packed",
        "packed by deflate",
        "packed, cut short",
        "not packed",
        "packed in an unknown way",
        "as many keys as allowed",
        "too many keys",
        "odd keys beside a good one",
        "a key id that is no text",
        "a list",
        "a key in place of a list",
        "empty",
        "deeply nested",
    ],
)
async def test_a_set_of_keys_is_read_within_its_bounds(
    body: bytes, headers: dict[str, str], is_read: bool, cache: Jwks, provider: KeyServer
) -> None:
    provider.body, provider.headers = body, headers
    if is_read:
        assert await is_known(cache, "now")
    else:
        with pytest.raises(KeysUnavailable):
            await cache.key("now")


async def test_a_bomb_is_refused_before_it_is_unpacked(cache: Jwks, provider: KeyServer) -> None:
    provider.body, provider.headers = gzip.compress(bytes(50_000_000), 9), {"Content-Encoding": "gzip"}
    tracemalloc.start()
    try:
        with pytest.raises(KeysUnavailable):
            await cache.key("now")
        assert tracemalloc.get_traced_memory()[1] < 20 * MAX_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("status", [201, 302, 404, 500])
async def test_another_status_than_200_brings_no_keys(status: int, cache: Jwks, provider: KeyServer) -> None:
    provider.status, provider.headers = status, {"Location": provider.url}
    with pytest.raises(KeysUnavailable):
        await cache.key("now")
    assert provider.fetches == 1


async def test_an_unusable_key_is_named_in_the_log_and_the_others_are_used(cache: Jwks, provider: KeyServer) -> None:
    provider.keys = [
        keys.jwk(keys.WEAK, "weak"),
        NOW | {"kid": "odd", "n": 7},
        keys.jwk(keys.NEXT, "enc", use="enc"),
        NOW,
    ]
    with capture_logs() as logs:
        assert await is_known(cache, "now")
    assert [(line["event"], line["log_level"], line["key_id"], line["reason"]) for line in logs] == [
        ("a published key is unusable", "warning", "weak", "ValueError"),
        ("a published key is unusable", "warning", "odd", "InvalidKeyError"),
    ]


async def test_a_set_without_a_usable_key_changes_nothing(cache: Jwks, provider: KeyServer, clock: Hand) -> None:
    assert await is_known(cache, "now")
    provider.keys = [keys.jwk(keys.WEAK, "weak")]
    clock.at += FRESH + 1
    assert await is_known(cache, "now")
    await settled(cache)
    assert await is_known(cache, "now")
    assert cache.generation == 0


async def test_a_provider_that_does_not_answer_in_time_is_unavailable(
    cache: Jwks, provider: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.05)
    provider.delay.clear()
    with capture_logs() as logs, pytest.raises(KeysUnavailable):
        await cache.key("now")
    assert logs[0]["reason"] == "TimeoutError"


async def test_a_close_ends_the_fetch_that_is_under_way(provider: KeyServer) -> None:
    cache = Jwks(provider.url, "RS256", fresh_seconds=FRESH)
    provider.delay.clear()
    waiting = asyncio.create_task(cache.key("now"))
    while not provider.fetches:
        await asyncio.sleep(0.001)
    await cache.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_request_for_keys_asks_for_them_through_the_proxy_of_the_settings_alone(
    monkeypatch: pytest.MonkeyPatch, provider: KeyServer
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    direct = Jwks(provider.url, "RS256", fresh_seconds=FRESH)
    assert await is_known(direct, "now")
    assert (provider.asked["accept"], provider.asked["accept-encoding"]) == (
        "application/jwk-set+json, application/json",
        "gzip",
    )
    assert direct._http.timeout == httpx.Timeout(jwks.FETCH_SECONDS)
    await direct.close()
    through = Jwks("http://keys.example/jwks.json", "RS256", fresh_seconds=FRESH, proxy_url=provider.url)
    assert await is_known(through, "now")
    assert provider.asked["host"] == "keys.example"
    await through.close()


FITTING: dict[str, Any] = {
    "RS256": keys.PROVIDER,
    "PS512": keys.PROVIDER,
    "ES256": keys.ELLIPTIC,
    "ES384": P384,
    "ES512": P521,
    "EdDSA": keys.EDWARDS,
}


@pytest.mark.parametrize("algorithm", FITTING)
def test_a_key_fits_the_algorithms_of_its_kind(algorithm: str) -> None:
    for other, key in FITTING.items():
        expected = other == algorithm or {other, algorithm} == {"RS256", "PS512"}
        assert fits(key.public_key(), algorithm) is expected, other
    assert not fits(FITTING[algorithm], algorithm)  # a private key is none


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (keys.WEAK.public_key(), "RS256"),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "ES256"),
        (ed448.Ed448PrivateKey.generate().public_key(), "EdDSA"),
        (b"a secret", "HS256"),
        (keys.PROVIDER.public_key(), "none"),
    ],
)
def test_a_weak_key_and_one_of_another_curve_do_not_fit(key: Any, algorithm: str) -> None:
    assert not fits(key, algorithm)


def test_a_public_key_is_read_from_pem_or_its_file(tmp_path: Path) -> None:
    pem = keys.pem(keys.PROVIDER)
    file = tmp_path / "key.pem"
    file.write_text(pem)
    expected = keys.PROVIDER.public_key().public_numbers()
    for text in (pem, pem.replace("\n", "\\n"), str(file)):
        assert public_key(text, "RS256").public_numbers() == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("/nowhere/key.pem", "should be a PEM public key, or the path of its file"),
        (
            "-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----",
            "should be a PEM public key, or the path of its file",
        ),
        (keys.pem(keys.WEAK), "should be a key for RS256; BROKER_JWT_ALGORITHM sets the algorithm"),
        (keys.pem(keys.ELLIPTIC), "should be a key for RS256; BROKER_JWT_ALGORITHM sets the algorithm"),
    ],
    ids=["no file", "no key", "weak", "of another algorithm"],
)
def test_another_public_key_is_refused_by_its_setting(text: str, problem: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        public_key(text, "RS256")
    assert refused.value.facts == {"problems": f"BROKER_JWT_PUBLIC_KEY: {problem}"}


def test_a_published_key_is_read_if_it_is_meant_for_the_algorithm() -> None:
    key: Any = published_key(NOW, "RS256")
    assert key.public_numbers() == keys.PROVIDER.public_key().public_numbers()
    without_alg = {name: value for name, value in NOW.items() if name != "alg"}
    assert published_key(without_alg, "RS512") is not None
    for other in (NOW | {"use": "enc"}, NOW | {"alg": "RS512"}, keys.jwk(keys.ELLIPTIC, "e", "ES256")):
        assert published_key(other, "RS256") is None
    with pytest.raises(ValueError, match=r"^the key is too weak, or its curve is another$"):
        published_key(keys.jwk(keys.WEAK, "weak"), "RS256")


async def test_a_fixed_key_is_the_key_of_every_token() -> None:
    fixed = FixedKey(b"secret")
    assert [await fixed.key(key_id) for key_id in (None, "a")] == [b"secret", b"secret"]
    assert fixed.generation == 0
