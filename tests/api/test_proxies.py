"""The client and the scheme of a request through proxies, from each header and each kind of address."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from broker.api.asgi.proxies import MAX_HOPS, Hop, Proxied, ProxyHeaders, forwarded_hops
from broker.app import PREFIX, create_app
from tests.support.serving import client_of, settings_of

TRUSTED = ("127.0.0.0/8", "10.0.0.0/8", "2001:db8:1::/48", "::ffff:192.0.2.8", "::ffff:172.16.0.0/108")
FOR, PROTO, RFC = "x-forwarded-for", "x-forwarded-proto", "forwarded"


async def reported(
    peer: str, headers: list[tuple[str, str]], kind: ProxyHeaders = "either", scope_type: str = "http"
) -> tuple[str, str]:
    """Return the client and the scheme that the application sees."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": scope_type, "client": (peer, 50000), "scheme": "http", "headers": raw}
    unused: Any = None
    await Proxied(app, TRUSTED, kind)(scope, unused, unused)
    return seen[0]["client"][0], seen[0]["scheme"]


@pytest.mark.parametrize(
    ("peer", "headers", "client", "scheme"),
    [
        ("127.0.0.1", [(FOR, "203.0.113.7"), (PROTO, "https")], "203.0.113.7", "https"),
        ("::ffff:127.0.0.1", [(FOR, "203.0.113.7"), (PROTO, "https")], "203.0.113.7", "https"),
        ("::ffff:192.0.2.1", [(FOR, "203.0.113.7"), (PROTO, "https")], "::ffff:192.0.2.1", "http"),
        ("::ffff:192.0.2.8", [(FOR, "203.0.113.7")], "203.0.113.7", "http"),
        ("192.0.2.8", [(FOR, "203.0.113.7")], "203.0.113.7", "http"),
        ("::ffff:172.31.255.1", [(FOR, "203.0.113.7, 172.16.0.1")], "203.0.113.7", "http"),
        ("172.32.0.1", [(FOR, "203.0.113.7")], "172.32.0.1", "http"),
        ("192.0.2.1", [(FOR, "203.0.113.7"), (PROTO, "https")], "192.0.2.1", "http"),
        ("192.0.2.1", [(RFC, "for=203.0.113.7;proto=https")], "192.0.2.1", "http"),
        ("10.0.0.1", [(FOR, "198.51.100.1, 203.0.113.7, 10.0.0.2")], "203.0.113.7", "http"),
        ("10.0.0.1", [(FOR, "198.51.100.1"), (FOR, "203.0.113.7:4711")], "203.0.113.7", "http"),
        ("10.0.0.1", [(FOR, "10.0.0.3, 10.0.0.2")], "10.0.0.3", "http"),
        ("10.0.0.1", [(FOR, "unknown")], "10.0.0.1", "http"),
        ("10.0.0.1", [(PROTO, "gopher")], "10.0.0.1", "http"),
        ("2001:db8:1::7", [(FOR, "2001:db8:2::1")], "2001:db8:2::1", "http"),
        ("10.0.0.1", [(RFC, "for=203.0.113.7;proto=https;by=10.0.0.1")], "203.0.113.7", "https"),
        ("::ffff:10.0.0.1", [(RFC, 'For="[2001:db8:2::1]:4711";Proto=HTTPS')], "2001:db8:2::1", "https"),
        ("10.0.0.1", [(RFC, "for=1.1.1.1, for=203.0.113.7;proto=https, for=10.0.0.2")], "203.0.113.7", "https"),
        ("10.0.0.1", [(RFC, "for=198.51.100.1"), (RFC, 'for="203.0.113.7:80"')], "203.0.113.7", "http"),
        ("10.0.0.1", [(RFC, "for=6.6.6.6"), (RFC, "for=203.0.113.7;proto=https;")], "203.0.113.7", "https"),
        ("10.0.0.1", [(RFC, "for=203.0.113.7"), (RFC, "")], "203.0.113.7", "http"),
        ("10.0.0.1", [(RFC, "for=_hidden;proto=https")], "10.0.0.1", "https"),
        ("10.0.0.1", [(RFC, 'for="203.0.113.7')], "10.0.0.1", "http"),
        ("10.0.0.1", [(RFC, "203.0.113.7")], "10.0.0.1", "http"),
        ("10.0.0.1", [(FOR, "203.0.113.7"), (RFC, "for=198.51.100.1;proto=https")], "203.0.113.7", "http"),
        ("10.0.0.1", [(RFC, "proto=https")], "10.0.0.1", "https"),
        ("10.0.0.1", [(FOR, "fe80::1%eth0")], "fe80::1", "http"),
        ("10.0.0.1", [], "10.0.0.1", "http"),
    ],
)  # fmt: skip
async def test_the_client_is_the_last_address_that_is_not_trusted(
    peer: str, headers: list[tuple[str, str]], client: str, scheme: str
) -> None:
    assert await reported(peer, headers) == (client, scheme)


@pytest.mark.parametrize(
    ("kind", "client"), [("either", "203.0.113.7"), ("x-forwarded", "203.0.113.7"), ("forwarded", "198.51.100.1")]
)
async def test_only_the_named_header_counts(kind: ProxyHeaders, client: str) -> None:
    both = [(FOR, "203.0.113.7"), (RFC, "for=198.51.100.1")]
    assert (await reported("10.0.0.1", both, kind))[0] == client
    if kind == "x-forwarded":
        assert (await reported("10.0.0.1", both[1:], kind))[0] == "10.0.0.1"


@pytest.mark.parametrize(
    ("header", "hops"),
    [
        ('for="a\\"b,c;d";proto=http', [Hop('a"b,c;d', "http")]),
        ("for=1.2.3.4 , for=5.6.7.8", [Hop("1.2.3.4"), Hop("5.6.7.8")]),
        ("proto=HTTPS", [Hop("", "https")]),
        ("", []),
        ("for=1.2.3.4 for=5.6.7.8", []),
        ("for=1.2.3.4;;proto=https", [Hop("1.2.3.4", "https")]),
        ("for=6.6.6.6, for=1.2.3.4;proto=https;", [Hop("6.6.6.6"), Hop("1.2.3.4", "https")]),
        ("for=6.6.6.6, for=1.2.3.4;proto=https; ", [Hop("6.6.6.6"), Hop("1.2.3.4", "https")]),
        ("for=6.6.6.6;, ;for=1.2.3.4 ; proto=https", [Hop("6.6.6.6"), Hop("1.2.3.4", "https")]),
        (", for=6.6.6.6,, for=1.2.3.4 , ", [Hop("6.6.6.6"), Hop("1.2.3.4")]),
        ('for="[2001:db8::1]:80";by="a;b", For="_a\\\\b"', [Hop("[2001:db8::1]:80"), Hop("_a\\b")]),
        ('for=6.6.6.6;by="x, for=1.2.3.4', []),
        (" " * 100_000 + '"', []),
    ],
)
def test_a_header_of_rfc_7239_is_parsed_by_its_grammar(header: str, hops: list[Hop]) -> None:
    assert forwarded_hops(header) == hops


@pytest.mark.parametrize(("reported_scheme", "scheme"), [("https", "wss"), ("http", "ws"), ("wss", "wss")])
async def test_a_websocket_keeps_a_scheme_of_its_own(reported_scheme: str, scheme: str) -> None:
    assert (await reported("10.0.0.1", [(PROTO, reported_scheme)], scope_type="websocket"))[1] == scheme


@pytest.mark.parametrize(
    ("headers", "client"),
    [([(FOR, "203.0.113.7:4711")], ("203.0.113.7", 0)), ([(PROTO, "https")], ("10.0.0.1", 50000))],
)
async def test_the_port_of_a_reported_client_is_unknown(
    headers: list[tuple[str, str]], client: tuple[str, int]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    seen: list[tuple[Scope, Any, Any]] = []
    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "client": ("10.0.0.1", 50000), "scheme": "http", "headers": raw}
    receive, send = Any, object()
    await Proxied(app, TRUSTED)(scope, receive, send)  # type: ignore[arg-type]
    ((passed, *ways),) = seen
    assert (passed["client"], ways) == (client, [receive, send])


async def test_only_the_last_hops_of_a_header_are_looked_at() -> None:
    trusted = [f"10.0.0.{number}" for number in range(1, MAX_HOPS)]
    for name, form in ((FOR, "{}"), (RFC, "for={}")):
        far = ", ".join(form.format(each) for each in ("203.0.113.7", "10.0.1.1", *trusted))
        assert (await reported("10.0.0.99", [(name, far)]))[0] == "10.0.1.1"
        near = ", ".join(form.format(each) for each in ("203.0.113.7", *trusted))
        assert (await reported("10.0.0.99", [(name, near)]))[0] == "203.0.113.7"


@pytest.mark.parametrize("scope", [{"type": "lifespan", "client": ("10.0.0.1", 1)}, {"type": "http"}])
async def test_what_has_no_client_passes(scope: dict[str, Any]) -> None:
    passed: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    unused: Any = None
    await Proxied(app, TRUSTED)(scope, unused, unused)
    assert passed == [scope]


async def test_a_link_names_the_scheme_that_a_proxy_reports(tmp_path: Path) -> None:
    app = create_app(settings_of(tmp_path, trusted_proxies="127.0.0.0/8", rate_limit_address="2/minute"))
    async with client_of(app, address="::ffff:127.0.0.1") as client:

        async def ask(address: str) -> httpx.Response:
            return await client.get(f"{PREFIX}/", headers={"Forwarded": f"for={address};proto=https"})

        for address in ("203.0.113.7", "203.0.113.8"):
            answers = [await ask(address) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [401, 401, 429]
            assert "strict-transport-security" in answers[0].headers
