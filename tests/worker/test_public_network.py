"""A webhook reaches public addresses only, whatever its name resolves to at the first or second look-up."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

import httpcore
import pytest
from httpcore import SOCKET_OPTION, AsyncNetworkStream

from broker.domain.origin import is_public
from broker.egress.public_network import PublicNetwork
from broker.worker.sender import Sender
from tests.support.receiver import Receiver, receiving
from tests.worker.sending import SECRET, announced

PUBLIC = "93.184.215.14"


@pytest.mark.parametrize(
    "address", [PUBLIC, "1.1.1.1", "192.0.1.1", "2a00::1", "2606:4700::1111", f"::ffff:{PUBLIC}", "64:ff9b::5db8:d70e"]
)
def test_a_public_address_is_one(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",  # noqa: S104 - an address that is refused
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:5db8:d70e::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "fd00:ec2::254",
        "fc00::1",
        "fe80::1",
        "fec0::1",
        "168.63.129.16",
        "fe80::1%eth0",
        "ff02::1",
        "2001:db8::1",
        "192.0.0.8",
        "192.0.0.192",
        "::ffff:192.0.0.192",
        "64:ff9b::c000:c0",
        "3fff::1",
        "3fff:fff:ffff::1",
    ],
)
def test_an_address_of_a_machine_a_network_or_a_cloud_is_not_public(address: str) -> None:
    assert not is_public(address)


class Names:
    """Answer each look-up with the next of the addresses, and count."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.count = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.count += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Wires(httpcore.AnyIOBackend):
    """Lead every address to the receiver, and note which was asked for."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.asked: list[str] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        self.asked.append(host)
        if host.endswith(".99"):
            raise httpcore.ConnectError("no server there")
        return await super().connect_tcp("127.0.0.1", self.receiver.port, timeout, local_address, socket_options)


def sender(names: Names, wires: Wires) -> Sender:
    return Sender([SECRET], PublicNetwork(look_up=names, network=wires), timeout_seconds=5)


async def test_the_checked_address_is_used_after_one_look_up_with_the_name_of_the_host() -> None:
    async with receiving(200) as receiver:
        names, wires = Names([PUBLIC]), Wires(receiver)
        sending = sender(names, wires)
        answer = await sending.send(announced("http://hooks.example/in?a=b"), datetime.now(UTC))
        await sending.close()
    assert (answer.status, wires.asked, names.count) == (200, [PUBLIC], 1)
    assert receiver.requests[0][0]["host"] == "hooks.example"


async def test_a_name_that_changes_between_two_look_ups_is_refused_the_second_time() -> None:
    async with receiving(500) as receiver:
        names, wires = Names([PUBLIC], ["127.0.0.1"]), Wires(receiver)
        for expected in ("it answered 500", "AddressRefused: the host has an address that is not public"):
            sending = sender(names, wires)
            answer = await sending.send(announced("http://hooks.example/in"), datetime.now(UTC))
            await sending.close()
            assert answer.reason == expected
    assert (wires.asked, len(receiver.requests)) == ([PUBLIC], 1)


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], [PUBLIC, "127.0.0.1"], ["fd00:ec2::254", PUBLIC]]
)
async def test_a_name_with_any_private_address_is_refused(addresses: list[str]) -> None:
    async with receiving(200) as receiver:
        wires = Wires(receiver)
        sending = sender(Names(addresses), wires)
        answer = await sending.send(announced("http://hooks.example/in"), datetime.now(UTC))
        await sending.close()
    assert answer.reason.startswith("AddressRefused")
    assert wires.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "2130706433", "169.254.169.254"])
async def test_an_address_in_the_url_itself_is_checked_as_the_system_reads_it(host: str) -> None:
    async with receiving(200) as receiver:
        sending = Sender([SECRET], PublicNetwork(), timeout_seconds=5)
        answer = await sending.send(announced(f"http://{host}:{receiver.port}/"), datetime.now(UTC))
        await sending.close()
    assert answer.reason.startswith("AddressRefused")
    assert receiver.connections == 0


async def test_the_next_address_is_tried_if_the_first_does_not_answer() -> None:
    async with receiving(200) as receiver:
        wires = Wires(receiver)
        sending = sender(Names(["1.1.1.99", PUBLIC]), wires)
        answer = await sending.send(announced("http://hooks.example/in"), datetime.now(UTC))
        await sending.close()
    assert (answer.status, wires.asked) == (200, ["1.1.1.99", PUBLIC])


async def test_an_unknown_name_is_an_ordinary_failure() -> None:
    async def nowhere(host: str, port: int) -> list[str]:
        raise OSError("unknown")

    sending = Sender([SECRET], PublicNetwork(look_up=nowhere))
    answer = await asyncio.wait_for(sending.send(announced("https://nowhere.example/"), datetime.now(UTC)), 5)
    await sending.close()
    assert answer.reason.startswith("ConnectError: the host cannot be resolved")


async def test_a_socket_of_this_machine_is_refused() -> None:
    with pytest.raises(httpcore.ConnectError):
        await PublicNetwork(loopback=True).connect_unix_socket("/run/docker.sock")
