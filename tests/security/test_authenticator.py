"""The verification of tokens without an application around it: each rule, at its bounds, and the reason it gives."""

from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from freezegun import freeze_time

from broker.api.auth.caller import Caller, ClaimNames, claim
from broker.api.auth.keys import FixedKey
from broker.api.auth.tokens import MAX_NUMERIC_DATE, MAX_TOKEN_LENGTH, Authenticator, RememberedTokens, TokenRules
from broker.errors import NotAuthenticated, PermissionMissing
from tests.security.bad_tokens import BAD_TOKENS, KEY
from tests.security.forging import AUDIENCE, ISSUER, claims, hs256

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
INVALID = "the token is not valid"
LONG = f"it is longer than {MAX_TOKEN_LENGTH} bytes"
ANOTHER_ALGORITHM = "its algorithm is not HS256"
EXPIRED = "it has expired"
EARLY = "it is not valid yet"
ISSUED_ELSEWHERE = "a required claim is missing, or its issuer is not accepted"
MEANT_FOR_OTHERS = "its audience is not accepted"
NO_OWNER = "its subject is missing or not valid"
REASONS = {
    "9 KB": LONG,
    "60 KB": LONG,
    "claims nested 3,000 deep": LONG,
    "no exp": ISSUED_ELSEWHERE,
    "no claims": ISSUED_ELSEWHERE,
    "exp over": EXPIRED,
    "exp now": EXPIRED,
    "exp 0": EXPIRED,
    "exp None": INVALID,
    "nbf in an hour": EARLY,
    "iat in an hour": EARLY,
    "alg none over a good signature": ANOTHER_ALGORITHM,
    "no alg": ANOTHER_ALGORITHM,
    "RS256 where secrets sign": ANOTHER_ALGORITHM,
    "b64 false": INVALID,
    "one changed bit": INVALID,
    "letters beyond ASCII": INVALID,
    **{f"iss {value}": ISSUED_ELSEWHERE for value in ("Ellipsis", "''", "'https://evil.example/'")},
    **{f"aud {value}": MEANT_FOR_OTHERS for value in ("Ellipsis", "None", "'other'", "['broker', 7]", "{'broker': 1}")},
    **{f"sub {value}": NO_OWNER for value in ("Ellipsis", "''", "7", "True", "'a\\nb'")},
}
"""The reason that some of the corpus get; the others are refused without a promise about it."""
SHARED = [bad for bad in BAD_TOKENS if bad.deployment == "HS256"]


class Keys:
    """One key, and which ids were asked for."""

    def __init__(self, key: bytes = KEY) -> None:
        self.generation = 0
        self.asked: list[str | None] = []
        self.value = key

    async def key(self, key_id: str | None) -> bytes:
        self.asked.append(key_id)
        return self.value


def authenticator(keys: Any = None, *, size: int = 0, seconds: float = 600, **rules: Any) -> Authenticator:
    accepted: dict[str, Any] = {"algorithm": "HS256", "issuers": (ISSUER,), "audiences": (AUDIENCE,), **rules}
    return Authenticator(keys or FixedKey(KEY), TokenRules(**accepted), RememberedTokens(size=size, seconds=seconds))


async def reason_of(token: str, **rules: Any) -> object:
    with pytest.raises(NotAuthenticated) as refused:
        await authenticator(**rules).caller(token)
    assert refused.value.facts["token_sent"] is True
    return refused.value.facts["reason"]


async def is_accepted(token: str, **rules: Any) -> bool:
    try:
        await authenticator(**rules).caller(token)
    except NotAuthenticated:
        return False
    return True


@pytest.mark.parametrize("bad", SHARED, ids=[bad.wrong.encode("ascii", "replace").decode() for bad in SHARED])
async def test_a_bad_token_is_refused_for_its_reason(bad: Any) -> None:
    reason = await reason_of(bad.make())
    assert reason == REASONS.get(bad.wrong, reason)


def test_each_reason_is_of_a_token_of_the_corpus() -> None:
    assert REASONS.keys() <= {bad.wrong for bad in SHARED}


async def test_a_good_token_names_its_caller() -> None:
    caller = await authenticator().caller(hs256(claims(scope="media:read media:upload"), KEY))
    assert caller == Caller("anna", frozenset({"media:read", "media:upload"}), None)


async def test_a_token_is_measured_before_it_is_read() -> None:
    assert await reason_of("a" * (MAX_TOKEN_LENGTH + 1)) == LONG
    assert await reason_of("é" * (MAX_TOKEN_LENGTH + 1)) == LONG
    assert await reason_of("a" * MAX_TOKEN_LENGTH) == INVALID


@pytest.mark.parametrize(
    ("leeway", "changes", "reason"),
    [
        (None, {"exp": 1}, None),
        (None, {"exp": 0}, EXPIRED),
        (None, {"exp": -4}, EXPIRED),
        (None, {"exp": -5}, EXPIRED),
        (None, {"nbf": 5}, None),
        (None, {"nbf": 6}, EARLY),
        (None, {"iat": 5}, None),
        (None, {"iat": 6}, EARLY),
        (0, {"exp": 1}, None),
        (0, {"exp": 0}, EXPIRED),
        (0, {"nbf": 1}, EARLY),
        (0, {"iat": 1}, EARLY),
        (60, {"exp": -59}, None),
        (60, {"exp": -60}, EXPIRED),
        (60, {"nbf": 60}, None),
        (60, {"nbf": 61}, EARLY),
    ],
)
@freeze_time(NOW)
async def test_the_bounds_of_a_tokens_time(leeway: int | None, changes: dict[str, int], reason: str | None) -> None:
    token = hs256(claims(**{name: SECONDS + by for name, by in changes.items()}), KEY)
    if reason is None:
        assert await is_accepted(token, leeway_seconds=leeway)
    else:
        assert await reason_of(token, leeway_seconds=leeway) == reason


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({"iat": 0}, True),
        ({"nbf": 0.5}, True),
        ({"exp": MAX_NUMERIC_DATE}, True),
        ({"exp": MAX_NUMERIC_DATE - 0.5}, True),
        ({"exp": MAX_NUMERIC_DATE + 1}, False),
        ({"nbf": -1}, False),
        ({"iat": True}, False),
        ({"iat": "0"}, False),
    ],
    ids=str,
)
async def test_a_date_is_a_number_of_this_calendar(changes: dict[str, Any], accepted: bool) -> None:
    token = hs256(claims(**changes), KEY)
    assert await is_accepted(token) is accepted
    if not accepted:
        assert await reason_of(token) == INVALID


@pytest.mark.parametrize(
    ("rules", "changes", "reason"),
    [
        ({"issuers": ()}, {"iss": ...}, None),
        ({"issuers": ()}, {"iss": "https://any.example/"}, None),
        ({"issuers": ("https://a.example/", ISSUER)}, {}, None),
        ({"audiences": ()}, {"aud": ...}, None),
        ({"audiences": ()}, {"aud": 7}, None),
        ({"audiences": ("a", "b")}, {"aud": ["c", "b"]}, None),
        ({"audiences": ("a", "b")}, {"aud": ["c"]}, MEANT_FOR_OTHERS),
        ({"audiences": ("a", "b")}, {"aud": "b"}, None),
        ({"audience_claim": "client"}, {"client": "broker", "aud": "other"}, None),
        ({"audience_claim": "client"}, {"client": "other"}, MEANT_FOR_OTHERS),
        ({"audience_claim": "client"}, {}, MEANT_FOR_OTHERS),
        ({"claims": ClaimNames(owner="uid")}, {"sub": 7, "uid": "anna"}, None),
        ({"claims": ClaimNames(owner="uid")}, {}, "its claim uid, which names the owner, is missing or not valid"),
    ],
    ids=str,
)
async def test_issuers_audiences_and_owners_are_those_of_the_rules(
    rules: dict[str, Any], changes: dict[str, Any], reason: str | None
) -> None:
    token = hs256(claims(**changes), KEY)
    if reason is None:
        assert await is_accepted(token, **rules)
    else:
        assert await reason_of(token, **rules) == reason


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ({}, True),
        *(({"typ": kind}, True) for kind in ("JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt")),
        *(({"typ": kind}, False) for kind in ("application/jwt", "XXJWTXX", None, 7, ["JWT"])),
        ({"kid": "k"}, True),
        ({"kid": None}, False),
        ({"jku": "https://evil.example/", "x5u": "https://evil.example/", "x5c": [], "jwk": {}}, True),
        ({"kid": 7}, False),
        ({"kid": ["k"]}, False),
        ({"crit": []}, False),
        ({"b64": True}, False),
    ],
    ids=str,
)
async def test_a_header_says_what_that_of_an_access_token_says(header: dict[str, Any], accepted: bool) -> None:
    token = hs256(claims(), KEY, {"alg": "HS256", **header})
    keys = Keys()
    if accepted:
        await authenticator(keys).caller(token)
        assert keys.asked == [header.get("kid")]
    else:
        assert await reason_of(token, keys=keys) == INVALID
        assert set(keys.asked) <= {None}  # no odd value is looked up


async def test_a_key_that_is_too_short_for_its_algorithm_verifies_nothing() -> None:
    short = b"a secret of 31 bytes, too short"
    assert await reason_of(hs256(claims(), short), keys=FixedKey(short)) == INVALID


async def test_another_algorithm_can_be_the_only_one() -> None:
    secret = KEY * 2
    token = jwt.encode(claims(), secret, "HS512")
    assert await is_accepted(token, keys=FixedKey(secret), algorithm="HS512")
    assert await reason_of(hs256(claims(), secret), algorithm="HS512") == "its algorithm is not HS512"


@freeze_time(NOW)
async def test_a_verified_token_is_cached_until_its_key_is_invalid() -> None:
    keys = Keys()
    cached = authenticator(keys, size=10)
    token = hs256(claims(), KEY)
    first = await cached.caller(token)
    assert await cached.caller(token) is first
    assert keys.asked == [None]
    keys.generation = 1
    assert await cached.caller(token) == first
    assert await cached.caller(token) == first
    assert keys.asked == [None, None]


async def test_a_cached_token_is_forgotten_when_it_expires() -> None:
    keys = Keys()
    cached = authenticator(keys, size=10)
    with freeze_time(NOW) as clock:
        token = hs256(claims(exp=SECONDS + 20), KEY)
        await cached.caller(token)
        clock.tick(19)
        await cached.caller(token)
        assert keys.asked == [None]
        clock.tick(1)
        with pytest.raises(NotAuthenticated, match=EXPIRED):
            await cached.caller(token)


ANNA, BERTA, CARLA = (Caller(name, frozenset()) for name in ("anna", "berta", "carla"))


def test_a_token_is_cached_for_its_seconds_and_not_beyond_its_end() -> None:
    remembered = RememberedTokens(size=2, seconds=10)
    remembered.add(b"a", ANNA, now=100, expires_at=1000)
    remembered.add(b"b", BERTA, now=100, expires_at=105)
    assert [remembered.get(b"a", now) for now in (100, 109.9, 110)] == [ANNA, ANNA, None]
    assert [remembered.get(b"b", now) for now in (104.9, 105)] == [BERTA, None]
    assert remembered.get(b"c", 100) is None


def test_the_oldest_cached_token_makes_room() -> None:
    remembered = RememberedTokens(size=2, seconds=10)
    for digest, caller in ((b"a", ANNA), (b"b", BERTA), (b"a", ANNA), (b"c", CARLA)):
        remembered.add(digest, caller, now=0, expires_at=1000)
    assert [remembered.get(digest, 1) for digest in (b"a", b"b", b"c")] == [ANNA, None, CARLA]
    remembered.clear()
    assert remembered.get(b"a", 1) is None


@pytest.mark.parametrize(("size", "seconds", "is_cached"), [(0, 10, False), (5, 0, False), (1, 0.5, True)])
def test_a_bound_of_zero_turns_the_cache_off(size: int, seconds: float, is_cached: bool) -> None:
    remembered = RememberedTokens(size=size, seconds=seconds)
    remembered.add(b"a", ANNA, now=0, expires_at=1000)
    assert (remembered.get(b"a", 0) is not None) is is_cached


@pytest.mark.parametrize(
    ("names", "changes", "granted"),
    [
        ({}, {"scope": "media:read  media:upload openid"}, {"media:read", "media:upload"}),
        ({}, {"scope": "media:*"}, {"media:read", "media:upload", "media:delete"}),
        ({}, {"scope": "media:admin media:delegate"}, {"media:admin", "media:delegate"}),
        ({}, {"scope": "media:read", "scp": ["media:delete"], "permissions": ["media:upload", 7]},
         {"media:read", "media:delete", "media:upload"}),
        ({}, {"scope": {"media:read": 1}}, set()),
        ({}, {"scope": "media:read\nmedia:upload"}, set()),
        ({}, {"scope": ...}, set()),
        ({"default": frozenset({"media:read"})}, {"scope": ...}, {"media:read"}),
        ({"default": frozenset({"media:read"})}, {"scope": ""}, set()),
        ({"prefix": "api/"}, {"scope": "api/media:read media:delete api/api/media:upload"}, {"media:read"}),
        ({"permissions": ("a.b",)}, {"a": {"b": ["media:read"]}}, {"media:read"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)  # fmt: skip
def test_permissions_are_read_from_the_claims(
    names: dict[str, Any], changes: dict[str, Any], granted: set[str]
) -> None:
    assert ClaimNames(**names).caller(claims(**changes)).permissions == granted


@pytest.mark.parametrize(
    ("names", "changes", "owner"),
    [
        ({}, {}, "anna"),
        ({"owner": "uid"}, {"uid": 42}, "42"),
        ({"owner": "user.id"}, {"user": {"id": "berta"}}, "berta"),
        ({"owner": "uid"}, {"uid": True}, None),
        ({"owner": "uid"}, {"uid": 4.2}, None),
        ({}, {"sub": 42}, None),
        ({}, {"sub": "a" * 256}, None),
    ],
    ids=str,
)
def test_an_owner_is_read_from_the_claims(names: dict[str, Any], changes: dict[str, Any], owner: str | None) -> None:
    if owner is None:
        with pytest.raises(NotAuthenticated) as refused:
            ClaimNames(**names).caller(claims(**changes))
        named = "claim uid, which names the owner," if names else "subject"
        assert refused.value.facts == {"reason": f"its {named} is missing or not valid", "token_sent": True}
    else:
        assert ClaimNames(**names).caller(claims(**changes)).owner == owner


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a", 1),
        ("a.b", 2),
        ("c.d.e", 3),
        ("c.d.f", 4),
        ("c.d.g", 5),
        ("c.h.i", 6),
        ("c.d", None),
        ("a.x", None),
        ("l.m", None),
        ("x", None),
        ("x.y", None),
    ],
)
def test_a_claim_is_found_by_its_whole_name_then_by_the_longest_path(name: str, value: object) -> None:
    document = {
        "a": 1,
        "a.b": 2,
        "c.d": {"e": 3, "g": None},
        "c": {"d": {"e": 7, "f": 4, "g": 5}, "h.i": 6},
        "l": ["m"],
    }
    if name == "c.d":
        document["c.d"], value = "whole", "whole"
    assert claim(document, name) == value


def test_a_permission_is_needed_unless_the_caller_is_an_administrator() -> None:
    reader, admin = Caller("anna", frozenset({"media:read"})), Caller("root", frozenset({"media:admin"}))
    reader.require("media:read")
    admin.require("media:read")
    with pytest.raises(PermissionMissing) as missing:
        reader.require("media:delete")
    assert missing.value.facts == {"permission": "media:delete"}
    assert (reader.reach, admin.reach) == ("anna", None)
