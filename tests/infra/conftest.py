"""The life of the module, run once for all tests: two variants are planned, applied, planned again and destroyed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.infra.account import REGION
from tests.infra.expected import Variant
from tests.infra.stand_in import aws_stand_in, write_provider
from tests.infra.terraform import Workspace, require_terraform

PLAIN = Variant(bucket="plain-media")
FULL = Variant(bucket="full-media", kms=True, versioning=True, cloudfront=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """The plans, outputs and leftovers of one variant."""

    variant: Variant
    first_plan: dict[str, Any]
    outputs: dict[str, Any]
    second_status: int
    second_plan: dict[str, Any]
    left: list[str]


@pytest.fixture(scope="session")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Life]]:
    """Return the life of each variant, by its bucket's name."""
    require_terraform()
    with aws_stand_in() as endpoint, ThreadPoolExecutor() as both:
        homes = {variant: tmp_path_factory.mktemp("terraform") / "module" for variant in (PLAIN, FULL)}
        lived = both.map(lambda variant: _live(variant, homes[variant], endpoint), homes)
        yield {life.variant.bucket: life for life in lived}


def _live(variant: Variant, home: Path, endpoint: str) -> Life:
    workspace = Workspace(home, variables=_variables(variant))
    write_provider(workspace.home, endpoint)
    workspace.init()
    _, first_plan = workspace.plan()
    workspace.apply_plan()
    outputs = workspace.outputs()
    second_status, second_plan = workspace.plan()
    workspace.destroy()
    return Life(
        variant=variant,
        first_plan=first_plan,
        outputs=outputs,
        second_status=second_status,
        second_plan=second_plan,
        left=_left(variant, endpoint),
    )


def _variables(variant: Variant) -> dict[str, Any]:
    variables: dict[str, Any] = {"bucket_name": variant.bucket, "allowed_origins": ["https://app.example"]}
    if variant.kms:
        variables["encryption"] = "sse-kms"
    if variant.versioning:
        variables["versioning"] = True
    if variant.cloudfront:
        variables["cloudfront"] = {"public_keys_pem": {"first": public_key_pem()}}
    return variables


def public_key_pem() -> str:
    """Return the public half of a new key pair."""
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _left(variant: Variant, endpoint: str) -> list[str]:
    """Return the names of the variant's resources that still exist."""

    def client(service: str) -> Any:
        keys = {"aws_access_key_id": "stand-in", "aws_secret_access_key": "stand-in"}
        return boto3.client(service, endpoint_url=endpoint, region_name=REGION, **keys)

    names = [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]]
    names += client("sqs").list_queues().get("QueueUrls", [])
    names += [policy["PolicyName"] for policy in client("iam").list_policies(Scope="Local")["Policies"]]
    return [name for name in names if variant.bucket in name]
