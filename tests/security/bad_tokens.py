"""The corpus of bad tokens, each with the deployment that it attacks."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.security import keys
from tests.security.forging import claims, eddsa, encoded, es256, hs256, rs256, with_parts
from tests.support.serving import SECRET

KEY = SECRET.encode()
NOW = {"alg": "RS256", "typ": "JWT", "kid": "now"}
EC = {"alg": "ES256", "typ": "JWT"}
ED = {"alg": "EdDSA", "typ": "JWT"}
EVIL = "http://127.0.0.1:9/keys"


@dataclass(frozen=True)
class BadToken:
    """Name what is wrong, and make the token when it is needed: it holds the time."""

    wrong: str
    deployment: str
    make: Callable[[], str]


def _shared(wrong: str, make: Callable[[], str]) -> BadToken:
    return BadToken(wrong, "HS256", make)


def _published(wrong: str, make: Callable[[], str]) -> BadToken:
    return BadToken(wrong, "RS256", make)


def _each(*values: Any) -> tuple[Any, ...]:
    """Return values of several types."""
    return values


def _head(**members: Any) -> Callable[[], str]:
    return lambda: hs256(claims(), KEY, {"alg": "HS256", "typ": "JWT", **members})


def _claims(**changes: Any) -> Callable[[], str]:
    return lambda: hs256(claims(**changes), KEY)


def _later(name: str, seconds: int) -> Callable[[], str]:
    return lambda: hs256(claims(**{name: int(time.time()) + seconds}), KEY)


def _payload(text: str | bytes) -> Callable[[], str]:
    return lambda: hs256(text, KEY)


def _twice(name: str, first: Any) -> Callable[[], str]:
    return lambda: hs256(f"{{{json.dumps(name)}: {json.dumps(first)}, {json.dumps(claims())[1:]}", KEY)


def _good() -> str:
    return hs256(claims(), KEY)


def _unsigned(alg: Any, signature: str = "") -> Callable[[], str]:
    return lambda: f"{encoded({'alg': alg, 'typ': 'JWT'})}.{encoded(claims())}.{signature}"


def _confused(secret: bytes, **head: Any) -> Callable[[], str]:
    return lambda: hs256(claims(), secret, {"alg": "HS256", "typ": "JWT", "kid": "now", **head})


def _by(key: Any, **head: Any) -> Callable[[], str]:
    return lambda: rs256(claims(), key, {**NOW, **head})


def _flipped() -> str:
    good = _good()
    last = good[-2]
    return good[:-2] + ("A" if last != "A" else "B") + good[-1]


UNSIGNED = [
    *(_shared(f"alg {alg!r}, unsigned", _unsigned(alg)) for alg in ("none", "None", "NONE", "nOnE", "", None)),
    *(_shared(f"alg {alg!r}, some signature", _unsigned(alg, "AAAA")) for alg in ("none", "None", "HS256", "", "null")),
    _shared("alg none over a good signature", lambda: with_parts(_good(), head={"alg": "none"})),
    _shared("no alg", lambda: hs256(claims(), KEY, {"typ": "JWT"})),
    _shared("alg as a list", _head(alg=["HS256"])),
    _shared("alg as a number", _head(alg=256)),
    _shared("alg in lower case", _head(alg="hs256")),
    _shared("alg with a space", _head(alg="HS256 ")),
    _shared("the signature cut off", lambda: _good().rpartition(".")[0] + "."),
    _shared("two parts", lambda: _good().rpartition(".")[0]),
]

SIGNATURES = [
    _shared("another secret", lambda: hs256(claims(), b"another secret, as long as the right one is")),
    _shared("an empty secret", lambda: hs256(claims(), b"")),
    _shared("the secret's beginning", lambda: hs256(claims(), KEY[:32])),
    _shared("HS384 with the right secret", lambda: hs256(claims(), KEY, {"alg": "HS384"}, hashlib.sha384)),
    _shared("HS512 with the right secret", lambda: hs256(claims(), KEY, {"alg": "HS512"}, hashlib.sha512)),
    _shared("HS512 called HS256", lambda: hs256(claims(), KEY, None, hashlib.sha512)),
    _shared("one changed bit", _flipped),
    _shared("half a signature", lambda: _good()[:-22]),
    _shared("the signature of other claims", lambda: with_parts(_good(), payload=claims(sub="eve"))),
    _shared(
        "the signature of another header", lambda: with_parts(_good(), head={"alg": "HS256", "typ": "JWT", "a": 1})
    ),
    _shared("RS256 where secrets sign", lambda: rs256(claims(), keys.PROVIDER, {"alg": "RS256"})),
]

SHAPES = [
    _shared("one part", lambda: "anna"),
    _shared("only dots", lambda: ".."),
    _shared("four parts", lambda: _good() + ".AAAA"),
    _shared(
        "five parts, as encrypted", lambda: ".".join([encoded({"alg": "dir", "enc": "A256GCM"}), "", "AA", "AA", "AA"])
    ),
    _shared("padding", lambda: _good() + "="),
    _shared("trailing data", lambda: _good() + ";admin=1"),
    _shared("a space within", lambda: _good().replace(".", ". ", 1)),
    _shared("the alphabet of ordinary base64", lambda: _good().replace("-", "+").replace("_", "/") + "+"),
    _shared("letters beyond ASCII", lambda: _good() + "é"),
    _shared("percent signs", lambda: _good().replace(".", "%2e")),
    _shared("quotes around", lambda: f'"{_good()}"'),
    _shared("9 KB", _claims(padding="x" * 7000)),
    _shared("60 KB", _claims(padding="x" * 45_000)),
    _shared("claims nested 3,000 deep", lambda: hs256('{"a":' * 3000 + "1" + "}" * 3000, KEY)),
    _shared("a list nested 2,500 deep", lambda: hs256('{"sub":"anna","exp":' + "[" * 2500 + "]" * 2500 + "}", KEY)),
    _shared("a token within a token", lambda: hs256(_good(), KEY, {"alg": "HS256", "typ": "JWT", "cty": "JWT"})),
    _shared("claims that are text", _payload('"anna"')),
    _shared("claims that are a list", lambda: hs256(json.dumps([claims()]), KEY)),
    _shared("claims that are null", _payload("null")),
    _shared("claims that are no JSON", _payload("sub=anna")),
    _shared("no claims", _payload("{}")),
    _shared("claims after a byte order mark", lambda: hs256(b"\xef\xbb\xbf" + json.dumps(claims()).encode(), KEY)),
    _shared("claims in UTF-16", lambda: hs256(json.dumps(claims()).encode("utf-16"), KEY)),
    _shared(
        "claims that are not UTF-8", lambda: hs256(json.dumps(claims(sub="X")).encode().replace(b"X", b"\xff"), KEY)
    ),
    _shared("a header that is a list", lambda: with_parts(_good(), head=["HS256"])),
    _shared("a header that is no JSON", lambda: with_parts(_good(), head="alg=HS256")),
    _shared("a header that is nested", lambda: with_parts(_good(), head='{"a":' * 900 + "1" + "}" * 900)),
]

CLAIMS = [
    _shared("sub twice", _twice("sub", "eve")),
    _shared("exp twice", _twice("exp", 1)),
    _shared("scope twice", _twice("scope", "")),
    _shared("alg twice", lambda: hs256(claims(), KEY, '{"alg": "none", "alg": "HS256"}')),
    _shared("kid twice", lambda: hs256(claims(), KEY, '{"alg": "HS256", "kid": "a", "kid": "b"}')),
    _shared("no exp", _claims(exp=...)),
    _shared("exp over", _later("exp", -1)),
    _shared("exp now", _later("exp", 0)),
    *(
        _shared(f"exp {value!r}", _claims(exp=value))
        for value in _each(None, True, "", "9999999999", [], {}, -1, 10**30, 0)
    ),
    _shared("exp NaN", _payload(json.dumps(claims(exp="X")).replace('"X"', "NaN"))),
    _shared("exp infinite", _payload(json.dumps(claims(exp="X")).replace('"X"', "Infinity"))),
    _shared("exp beyond all numbers", _payload(json.dumps(claims(exp="X")).replace('"X"', "1e999"))),
    _shared("exp of 5,000 digits", _payload(json.dumps(claims(exp="X")).replace('"X"', "9" * 5000))),
    _shared("nbf in an hour", _later("nbf", 3600)),
    *(_shared(f"nbf {value!r}", _claims(nbf=value)) for value in _each(True, "0", None, [])),
    _shared("iat in an hour", _later("iat", 3600)),
    *(_shared(f"iat {value!r}", _claims(iat=value)) for value in _each(True, "0", [])),
    *(
        _shared(f"iss {value!r}", _claims(iss=value))
        for value in _each(
            ..., None, "", "https://evil.example/", "https://login.example", ["https://login.example/"], 7
        )
    ),
    *(
        _shared(f"aud {value!r}", _claims(aud=value))
        for value in _each(..., None, "", "other", "broke", ["other"], [], ["broker", 7], {"broker": 1}, 7, "BROKER")
    ),
    *(
        _shared(f"sub {value!r}"[:60], _claims(sub=value))
        for value in _each(
            ...,
            None,
            "",
            " ",
            " anna",
            7,
            True,
            ["anna"],
            {},
            "a" * 256,
            "a\nb",
            "a\x00b",
            "a\u202eb",
            "\u200b",
        )
    ),
    _shared("sub half a character", _payload(json.dumps(claims(sub="X")).replace("X", "\\ud800"))),
    *(
        _shared(f"crit {value!r}", _head(crit=value))
        for value in _each(["exp"], ["b64"], [], "exp", None, [7], ["x-unknown"])
    ),
    _shared("b64 false", lambda: hs256(claims(), KEY, {"alg": "HS256", "b64": False, "crit": ["b64"]})),
    _shared("crit with b64 true", _head(b64=True, crit=["b64"])),
    _shared("NaN in a claim that is not read", _payload(json.dumps(claims(note="X")).replace('"X"', "NaN"))),
    *(
        _shared(f"typ {value!r}", _head(typ=value))
        for value in _each("logout+jwt", "dpop+jwt", "JWE", "", 7, None, ["JWT"])
    ),
    *(_shared(f"kid {value!r}", _head(kid=value)) for value in _each(7, True, [], {"now": 1})),
]

CONFUSED_KEYS = [
    _published("HS256 with the public key as PEM", _confused(keys.pem(keys.PROVIDER).encode())),
    _published("HS256 with the PEM, stripped", _confused(keys.pem(keys.PROVIDER).strip().encode())),
    _published("HS256 with the public key as DER", _confused(keys.der(keys.PROVIDER))),
    _published("HS256 with the JWK", _confused(json.dumps(keys.jwk(keys.PROVIDER, "now")).encode())),
    _published("HS256 with the modulus", _confused(keys.jwk(keys.PROVIDER, "now")["n"].encode())),
    _published("HS256 with the broker's own secret", _confused(KEY)),
    _published("HS256 with a shared key of the JWKS", _confused(keys.SHARED.encode(), kid="shared")),
    _published("an HMAC called RS256", _confused(keys.pem(keys.PROVIDER).encode(), alg="RS256")),
    *(
        _published(f"kid {kid!r} by an attacker", _by(keys.ATTACKER, kid=kid))
        for kid in ("now", "../../../../dev/null", "' OR 1=1 --", EVIL, "", "now\x00", "x" * 2000, "shared")
    ),
    _published("no kid", lambda: rs256(claims(), keys.ATTACKER, {"alg": "RS256"})),
    _published("kid null by an attacker", _by(keys.ATTACKER, kid=None)),
    _published("an embedded jwk", _by(keys.ATTACKER, jwk=keys.jwk(keys.ATTACKER, "now"))),
    _published("an embedded jwk without kid", _by(keys.ATTACKER, kid="evil", jwk=keys.jwk(keys.ATTACKER, "evil"))),
    _published("jku", _by(keys.ATTACKER, kid="evil", jku=EVIL)),
    _published("x5u", _by(keys.ATTACKER, kid="evil", x5u=EVIL)),
    _published("x5c", _by(keys.ATTACKER, kid="evil", x5c=[keys.der(keys.ATTACKER).hex()])),
    _published("a key that only encrypts", _by(keys.ENCRYPTS, kid="encrypts")),
    _published("a published key that is too short", _by(keys.WEAK, kid="weak")),
    _published(
        "RS512 by the right key",
        lambda: rs256(claims(), keys.PROVIDER, {**NOW, "alg": "RS512"}, algorithm=hashes.SHA512()),
    ),
    _published("PS256 by the right key", lambda: rs256(claims(), keys.PROVIDER, {**NOW, "alg": "PS256"}, pss=True)),
    _published("PSS called RS256", lambda: rs256(claims(), keys.PROVIDER, NOW, pss=True)),
    _published("ES256 by a published key", lambda: es256(claims(), keys.ELLIPTIC, {**EC, "kid": "elliptic"})),
    _published("unsigned", lambda: f"{encoded({**NOW, 'alg': 'none'})}.{encoded(claims())}."),
]

CURVES = [
    BadToken("r and s of zero", "ES256", lambda: with_parts(es256(claims(), keys.ELLIPTIC, EC), signature=bytes(64))),
    BadToken("no r and s at all", "ES256", lambda: with_parts(es256(claims(), keys.ELLIPTIC, EC), signature=b"")),
    BadToken("a signature in DER", "ES256", lambda: es256(claims(), keys.ELLIPTIC, EC, der=True)),
    BadToken("another curve's key", "ES256", lambda: es256(claims(), ec.generate_private_key(ec.SECP384R1()), EC)),
    BadToken("secp256k1", "ES256", lambda: es256(claims(), ec.generate_private_key(ec.SECP256K1()), EC)),
    BadToken("an attacker's key", "ES256", lambda: es256(claims(), ec.generate_private_key(ec.SECP256R1()), EC)),
    BadToken("HS256 with the PEM", "ES256", lambda: hs256(claims(), keys.pem(keys.ELLIPTIC).encode())),
    BadToken(
        "a signature of zeros", "EdDSA", lambda: with_parts(eddsa(claims(), keys.EDWARDS, ED), signature=bytes(64))
    ),
    BadToken("a malleable signature", "EdDSA", lambda: eddsa(claims(), keys.EDWARDS, ED, malleable=True)),
    BadToken("HS256 with the PEM", "EdDSA", lambda: hs256(claims(), keys.pem(keys.EDWARDS).encode())),
    BadToken("ES256", "EdDSA", lambda: es256(claims(), keys.ELLIPTIC, EC)),
]

BAD_TOKENS = [*UNSIGNED, *SIGNATURES, *SHAPES, *CLAIMS, *CONFUSED_KEYS, *CURVES]
