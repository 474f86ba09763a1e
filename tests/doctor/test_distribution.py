"""With CloudFront its links are tried: a distribution that refuses them, or answers without, is found."""

from collections.abc import Callable

import pytest

from broker.doctor import Verdict
from tests.doctor.deployed import Deployed, ill
from tests.doctor.edge import Edge, key_pair

KEY_ID = "K2EXAMPLE"
PUBLIC, PRIVATE = key_pair()
OTHER_PUBLIC, _ = key_pair()


@pytest.fixture
def edge(deployed: Deployed) -> Edge:
    """Return a distribution in front of the deployment's bucket, as Terraform makes it."""
    return Edge(deployed.s3, deployed.bucket, {KEY_ID: PUBLIC})


async def test_a_distribution_as_terraform_makes_it_is_well(deployed: Deployed, edge: Edge) -> None:
    with edge.serving() as address:
        findings = await deployed.examine(bucket={"cloudfront": (address, KEY_ID, PRIVATE)})
    assert ill(findings) == {}
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
    ("spoil", "check", "seen", "words"),
    [
        (_unknown_key, "CloudFront", "403 InvalidKey", f"aws cloudfront get-public-key --id {KEY_ID}"),
        (_other_pair, "CloudFront", "403 AccessDenied", "aws s3api get-bucket-policy"),
        (_unread, "CloudFront", "403 AccessDenied", "aws s3api get-bucket-policy"),
        (_open, "CloudFront's links", "answers nobody's link and a link that has ended", "trusted key groups"),
    ],
)
async def test_a_spoilt_distribution_is_found(
    deployed: Deployed, edge: Edge, spoil: Callable[[Edge], None], check: str, seen: str, words: str
) -> None:
    spoil(edge)
    with edge.serving() as address:
        found = ill(await deployed.examine(bucket={"cloudfront": (address, KEY_ID, PRIVATE)}))
    assert set(found) == {check}
    assert (found[check].verdict, found[check].cause != "") == (Verdict.FAIL, True)
    assert seen in found[check].seen
    assert words in found[check].mend
    assert PRIVATE not in str(found[check].to_json())


async def test_a_host_that_is_no_distribution_is_found(deployed: Deployed) -> None:
    found = ill(await deployed.examine(bucket={"cloudfront": ("http://127.0.0.1:9", KEY_ID, PRIVATE)}))
    assert set(found) == {"CloudFront"}
    assert found["CloudFront"].seen == "http://127.0.0.1:9 does not answer: ConnectError"
