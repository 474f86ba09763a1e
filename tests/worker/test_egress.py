"""Webhooks and keys through an egress proxy, and to private networks that a setting lists."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from broker.api.auth.jwks import Jwks
from broker.egress.proxy import EgressProxy
from broker.egress.public_network import PublicNetwork
from broker.errors import ApplicationUnavailable, KeysUnavailable, NotAuthenticated
from broker.lifecycle.application.deciding import IssueRequest
from broker.lifecycle.requests import UploadRequest
from broker.settings import Settings
from broker.wiring import egress_proxy, issue_hook, running, webhook_sender
from broker.worker.sender import Answer, Sender
from tests.support.receiver import Receiver, receiving
from tests.support.serving import settings_of
from tests.support.tls import certificate_for
from tests.worker.sending import SECRET, announced

RSA_KEY = rsa.generate_private_key(65537, 2048)


@dataclass
class Proxy:
    """An HTTP proxy that leads every tunnel to one port of this machine."""

    leads_to: int
    port: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    """The target and the credentials of each request."""

    @property
    def url(self) -> str:
        """Return the address of the proxy, with credentials."""
        return f"http://ann:p%40ss@127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one CONNECT."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        given = next((line.split(" ")[-1] for line in lines if line.lower().startswith("proxy-authorization")), "")
        self.requests.append((lines[0].split(" ")[1], base64.b64decode(given).decode()))
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.leads_to)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def proxied(leads_to: int) -> AsyncIterator[Proxy]:
    """Run a proxy that leads to a port of this machine."""
    proxy = Proxy(leads_to)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy


@asynccontextmanager
async def receiving_tls(folder: Path, name: str) -> AsyncIterator[tuple[Receiver, ssl.SSLContext]]:
    """Run a receiver with a certificate for a name; yield it and a context that trusts it."""
    context, certificate = certificate_for(name, folder)
    async with (
        receiving(204) as receiver,
        await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=context) as it,
    ):
        receiver.port = it.sockets[0].getsockname()[1]
        yield receiver, ssl.create_default_context(cafile=str(certificate))


async def send(sender: Sender, target: str) -> Answer:
    """Send one webhook and close the sender."""
    answer = await sender.send(announced(target), datetime.now(UTC))
    await sender.close()
    return answer


async def test_a_webhook_goes_through_the_proxy_whose_names_it_resolves(tmp_path: Path) -> None:
    async with receiving_tls(tmp_path, "hooks.invalid") as (receiver, tls), proxied(receiver.port) as proxy:
        sender = Sender([SECRET], PublicNetwork(), proxy=EgressProxy(proxy.url), tls=tls)
        assert (await send(sender, "https://hooks.invalid/hook")).delivered
    assert proxy.requests == [("hooks.invalid:443", "ann:p@ss")]
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("target", ["https://169.254.169.254/latest", "https://10.1.2.3/", "https://[::1]:9/"])
async def test_a_private_address_is_refused_through_a_proxy_too(target: str) -> None:
    async with proxied(9) as proxy:
        answer = await send(Sender([SECRET], PublicNetwork(), proxy=EgressProxy(proxy.url)), target)
    assert answer.status is None
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("networks", "delivered"), [((), False), (("127.0.0.0/8",), True), (("10.0.0.0/8",), False), (("127.0.0.1",), True)]
)
async def test_a_private_host_is_reached_only_in_a_listed_network(
    tmp_path: Path, networks: tuple[str, ...], delivered: bool
) -> None:
    async def look_up(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with receiving_tls(tmp_path, "hooks.internal") as (receiver, tls):
        network = PublicNetwork(private=networks, look_up=look_up)
        answer = await send(Sender([SECRET], network, tls=tls), f"https://hooks.internal:{receiver.port}/hook")
    assert answer.delivered is delivered
    assert len(receiver.requests) == int(delivered)


@pytest.mark.parametrize(
    ("host", "entries", "serves"),
    [
        ("hooks.example", (), True),
        ("localhost", (), False),
        ("127.0.0.1", (), False),
        ("hooks.example", ("hooks.example",), False),
        ("a.hooks.example", (".hooks.example",), False),
        ("a.hooks.example", ("hooks.example",), False),
        ("a.hooks.example", ("*.hooks.example",), False),
        ("otherhooks.example", ("hooks.example",), True),
        ("10.1.2.3", ("10.0.0.0/8",), False),
        ("192.0.2.1", ("10.0.0.0/8",), True),
        ("hooks.example", ("*",), False),
    ],
)
def test_some_hosts_are_reached_without_the_proxy(host: str, entries: tuple[str, ...], serves: bool) -> None:
    assert EgressProxy("http://proxy.example:3128", entries).serves(host) is serves


async def test_published_keys_are_fetched_through_the_proxy() -> None:
    async with receiving(204) as receiver, proxied(receiver.port) as proxy:
        jwks = Jwks("https://login.invalid/keys", "RS256", fresh_seconds=60, proxy_url=proxy.url)
        with pytest.raises((KeysUnavailable, NotAuthenticated)):
            await jwks.key("one")
        await jwks.close()
    assert ("login.invalid:443", "ann:p@ss") in proxy.requests


@asynccontextmanager
async def hanging_up() -> AsyncIterator[tuple[int, list[object]]]:
    """Run a server that closes each connection at once; yield its port, and what it was connected to from."""
    connections: list[object] = []

    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer.get_extra_info("peername"))
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], connections


async def _send_a_webhook(settings: Settings, target: str) -> None:
    await send(webhook_sender(settings), target)


async def _ask_the_application(settings: Settings, target: str) -> None:
    hook = issue_hook(settings.model_copy(update={"issue_hook_url": target}))
    assert hook is not None
    question = IssueRequest(caller="anna", permissions=frozenset(), owner="anna", upload=UploadRequest("video/mp4"))
    with pytest.raises(ApplicationUnavailable):
        await hook(question)
    await hook.close()


async def _fetch_keys(settings: Settings, target: str) -> None:
    with_keys = settings.model_copy(update={"jwks_url": target})
    async with running(with_keys) as (services, _):
        with pytest.raises((KeysUnavailable, NotAuthenticated)):
            await services.authenticator.caller(jwt.encode({"sub": "anna"}, RSA_KEY, "RS256", {"kid": "one"}))


CLIENTS: dict[str, Callable[[Settings, str], Awaitable[None]]] = {
    "webhooks": _send_a_webhook,
    "the issue hook": _ask_the_application,
    "keys": _fetch_keys,
}
HOOKS = {"webhook_secrets": SECRET, "issue_hook_secrets": SECRET}


@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize(("no_proxy", "reached"), [("", True), ("other.invalid", True), (".invalid", False)])
async def test_each_client_takes_the_proxy_that_the_settings_name(
    tmp_path: Path, ask: Callable[[Settings, str], Awaitable[None]], no_proxy: str, reached: bool
) -> None:
    async with hanging_up() as (port, _), proxied(port) as proxy:
        await ask(settings_of(tmp_path, https_proxy=proxy.url, no_proxy=no_proxy, **HOOKS), "https://hooks.invalid/")
    assert {target for target, _ in proxy.requests} == ({"hooks.invalid:443"} if reached else set())


@pytest.mark.parametrize("ask", [_send_a_webhook, _ask_the_application], ids=["webhooks", "the issue hook"])
@pytest.mark.parametrize(("networks", "reached"), [("", False), ("10.0.0.0/8", False), ("10.0.0.0/8,127.0.0.1", True)])
async def test_each_hook_reaches_the_private_networks_that_the_settings_list(
    tmp_path: Path, ask: Callable[[Settings, str], Awaitable[None]], networks: str, reached: bool
) -> None:
    async with hanging_up() as (port, connections):
        await ask(settings_of(tmp_path, private_networks=networks, **HOOKS), f"https://127.0.0.1:{port}/")
    assert bool(connections) is reached


def test_the_variables_of_the_environment_name_the_proxy(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, https_proxy="http://ann:secret@proxy.example:3128", no_proxy="internal,10.0.0.0/8")
    assert egress_proxy(settings) == EgressProxy("http://ann:secret@proxy.example:3128", ("internal", "10.0.0.0/8"))
    assert "http://ann:secret@proxy.example:3128" in settings.secrets()
    assert egress_proxy(settings_of(tmp_path)) is None
    assert isinstance(webhook_sender(settings), Sender)
