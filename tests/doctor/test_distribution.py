"""Faults of a CloudFront distribution: one that refuses valid links, or serves without one, is found."""

from collections.abc import Callable

import pytest

from broker.doctor import Verdict
from tests.doctor.deployed import Deployed, unhealthy
from tests.doctor.edge import Edge, key_pair

KEY_ID = "K2EXAMPLE"
PUBLIC, PRIVATE = key_pair()
OTHER_PUBLIC, _ = key_pair()


@pytest.fixture
def edge(deployed: Deployed) -> Edge:
    """Return a distribution in front of the deployment's bucket, as Terraform makes it."""
    return Edge(deployed.s3, deployed.bucket, {KEY_ID: PUBLIC})


async def test_a_distribution_as_terraform_creates_it_is_healthy(deployed: Deployed, edge: Edge) -> None:
    with edge.serving() as address:
        findings = await deployed.examine(bucket={"cloudfront": (address, KEY_ID, PRIVATE)})
    assert unhealthy(findings) == {}
    assert {"CloudFront", "CloudFront's links"} <= {finding.check for finding in findings}
    assert deployed.leftovers() == []


def _unknown_key(edge: Edge) -> None:
    edge.trusted = {"K3ANOTHER": PUBLIC}


def _other_pair(edge: Edge) -> None:
    edge.trusted = {KEY_ID: OTHER_PUBLIC}


def _unread(edge: Edge) -> None:
    edge.may_read = False


def _open(edge: Edge) -> None:
    edge.trusted = {}


@pytest.mark.parametrize(
    ("spoil", "check", "detail", "words"),
    [
        (_unknown_key, "CloudFront", "403 InvalidKey", f"aws cloudfront get-public-key --id {KEY_ID}"),
        (_other_pair, "CloudFront", "403 AccessDenied", "aws s3api get-bucket-policy"),
        (_unread, "CloudFront", "403 AccessDenied", "aws s3api get-bucket-policy"),
        (_open, "CloudFront's links", "serves an unsigned link and an expired link", "trusted key groups"),
    ],
)
async def test_a_faulty_distribution_is_found(
    deployed: Deployed, edge: Edge, spoil: Callable[[Edge], None], check: str, detail: str, words: str
) -> None:
    spoil(edge)
    with edge.serving() as address:
        found = unhealthy(await deployed.examine(bucket={"cloudfront": (address, KEY_ID, PRIVATE)}))
    assert set(found) == {check}
    assert (found[check].verdict, found[check].cause != "") == (Verdict.FAIL, True)
    assert detail in found[check].detail
    assert words in found[check].fix
    assert PRIVATE not in str(found[check].to_json())


async def test_a_host_without_a_distribution_is_found(deployed: Deployed) -> None:
    found = unhealthy(await deployed.examine(bucket={"cloudfront": ("http://127.0.0.1:9", KEY_ID, PRIVATE)}))
    assert set(found) == {"CloudFront"}
    assert found["CloudFront"].detail == "http://127.0.0.1:9 does not answer: ConnectError"
