"""The doctor's findings on servers other than AWS: plain moto, which enforces nothing, and Ceph's gateway."""

import json
import secrets
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from rich.console import Console

from broker.aws.bucket import BucketConfig
from broker.doctor import Deployment, Finding, Verdict, examine, report
from broker.domain.s3.sigv4 import Credentials
from tests.doctor.deployed import ABORTED, BLOCKED, CLEARED, over_tls, page_rule, unhealthy
from tests.support.ceph_rgw import CephRGW
from tests.support.databases import sqlite_url

FAIL, WARN = Verdict.FAIL, Verdict.WARN
CEPH_GAPS = {
    "ownership": "this server has no such setting",
    "encryption": "this server has no such setting",
    "upload answer": "without ETag and Location",
    "stale copy": "copies an overwritten upload",
    "second copy": "lets a copy replace an existing object",
}
"""What Ceph RGW 16.2.15 does otherwise than AWS, as far as the doctor looks; the broker copes with each."""
CEPH_FAULT = {"composition": "upload_part_copy is refused (AccessDenied)"}
"""In a bucket with a public access block, as this one, that gateway copies no parts. Without the block it does."""


def deployment(endpoint_url: str, keys: Credentials, folder: Path) -> tuple[Deployment, Any]:
    """Make a bucket with what both servers can be told; return a deployment on it, and a client of the server."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
    )
    name = f"doctor-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=name)
    client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [page_rule()]})
    client.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=BLOCKED)
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [CLEARED, ABORTED]})
    bucket = BucketConfig(
        name=name, region="us-east-1", endpoint_url=endpoint_url, path_style=True, is_aws=False, credentials=keys
    )
    pages = ("https://app.example", "https://admin.example")
    url = sqlite_url(folder)
    return Deployment(bucket=bucket, content_type="video/mp4", page_origins=pages, database_url=url), client


def verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    """Return the verdicts of the unhealthy findings."""
    return {check: finding.verdict for check, finding in unhealthy(findings).items()}


@pytest.fixture
def plain_moto() -> Iterator[str]:
    """Run moto's own server; return its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


async def test_plain_moto_is_loudly_reported_as_not_enforcing_policies(plain_moto: str, tmp_path: Path) -> None:
    described, client = deployment(plain_moto, Credentials("any", "thing"), tmp_path)
    findings = await examine(described)
    found = verdicts(findings)
    enforcement = {"policies", "refuses oversize", "refuses type", "refuses altered", "refuses expired", "links"}
    assert {check for check, verdict in found.items() if check in enforcement and verdict is FAIL} == enforcement
    screen = StringIO()
    report.show(findings, Console(file=screen, width=100))
    said = screen.getvalue()
    assert "STOP" in said.splitlines()[0]
    assert "THIS SERVER DOES NOT ENFORCE POLICIES" in said
    assert "Contents" not in client.list_objects_v2(Bucket=described.bucket.name)


async def test_of_ceph_exactly_the_known_gaps_are_reported(ceph_rgw: CephRGW, tmp_path: Path) -> None:
    keys = Credentials(ceph_rgw.access_key, ceph_rgw.secret_key)
    described, client = deployment(ceph_rgw.endpoint_url, keys, tmp_path)
    document = {"Version": "2012-10-17", "Statement": [over_tls(described.bucket.name)]}
    client.put_bucket_policy(Bucket=described.bucket.name, Policy=json.dumps(document))
    findings = await examine(described)
    assert verdicts(findings) == dict.fromkeys(CEPH_GAPS, WARN) | dict.fromkeys(CEPH_FAULT, FAIL)
    details = {finding.check: finding.detail for finding in findings}
    for check, words in (CEPH_GAPS | CEPH_FAULT).items():
        assert words in details[check]
    assert "Contents" not in client.list_objects_v2(Bucket=described.bucket.name)
