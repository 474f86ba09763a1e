"""The API matches its OpenAPI document for any input: no 5xx, no other status, no other schema."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from broker.api import schemas
from broker.app import PREFIX, create_app, create_router
from broker.dev.s3 import EmbeddedS3
from tests.support.live import live
from tests.support.serving import bearing, settings_of, token

EXAMPLES = int(os.environ.get("BROKER_TEST_REQUESTS", "30"))
"""For each operation."""
OPERATIONS = 8
OPERATION_IDS = {
    ("post", "/upload"): "issue_upload",
    ("post", "/uploads"): "issue_uploads",
    ("get", "/rules"): "get_rules",
    ("get", "/{media_id}/parts"): "list_parts",
    ("post", "/{media_id}/complete"): "complete_upload",
    ("get", "/{media_id}/uploaded/{state}"): "return_from_form",
    ("get", "/{media_id}"): "get_media",
    ("get", "/"): "list_media",
    ("delete", "/{media_id}"): "delete_media",
    ("get", "/health/s3"): "check_s3",
    ("get", "/healthz"): "check_alive",
    ("get", "/readyz"): "check_ready",
}
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
BEYOND_A_SCHEMA = [positive_data_acceptance]
"""What a schema cannot say: which types, sizes and origins a deployment accepts, and which ids there are."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, embedded_s3: EmbeddedS3, make_bucket: Any) -> Iterator[str]:
    known = settings_of(
        tmp_path_factory.mktemp("openapi"),
        bucket_name=make_bucket(),
        access_key_id=embedded_s3.access_key,
        secret_access_key=embedded_s3.secret_key,
        region=embedded_s3.region,
        s3_endpoint_url=embedded_s3.endpoint_url,
        s3_path_style=True,
        s3_timeout_seconds=30,
        redirect_origins="https://app.example",
    )
    with live(create_app(known)) as url:
        yield url


def test_each_example_matches_its_schema(tmp_path: Path) -> None:
    parts = create_app(settings_of(tmp_path)).openapi()["components"]["schemas"]
    examples = {name: part["examples"] for name, part in parts.items() if "examples" in part}
    assert {"UploadBody", "Issued", "Playback", "MediaList", "Deleted", "Rules"} <= examples.keys()
    for name, found in examples.items():
        for example in found:
            TypeAdapter(getattr(schemas, name)).validate_json(json.dumps(example))
            assert example.keys() <= parts[name]["properties"].keys()


@pytest.mark.parametrize("mounted", [False, True])
def test_every_reference_in_the_document_resolves(tmp_path: Path, mounted: bool) -> None:
    settings = settings_of(tmp_path)
    app: FastAPI = create_app(settings)
    if mounted:
        app = FastAPI()
        app.include_router(create_router(settings), prefix="/videos")
    document = app.openapi()
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert referred <= document["components"]["schemas"].keys()
    assert ("ProblemDocument" in referred) is not mounted
    refused = document["paths"]["/videos/upload" if mounted else f"{PREFIX}/upload"]["post"]["responses"]["401"]
    assert refused["content"].keys() == {"application/problem+json"}


@pytest.mark.parametrize("prefix", ["", "/videos", PREFIX])
def test_operation_ids_are_short_and_independent_of_the_prefix(tmp_path: Path, prefix: str) -> None:
    app = FastAPI()
    app.include_router(create_router(settings_of(tmp_path)), prefix=prefix)
    ids = {
        (method, path.removeprefix(prefix)): operation["operationId"]
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    }
    assert ids.items() >= OPERATION_IDS.items()
    assert len(set(ids.values())) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(_[a-z0-9]+){1,3}", name) for name in ids.values())


@pytest.mark.parametrize(("name", "size"), [("checksum_sha256", 32), ("checksum_crc64nvme", 8)])
def test_the_pattern_of_a_checksum_admits_what_the_broker_admits(tmp_path: Path, name: str, size: int) -> None:
    known = create_app(settings_of(tmp_path)).openapi()["components"]["schemas"]["UploadBody"]["properties"]
    (pattern,) = [each["pattern"] for each in known[name]["anyOf"] if "pattern" in each]
    good = base64.b64encode(hashlib.sha256(b"").digest()[:size]).decode()
    for candidate in (good, good[1:], f"{good}A", *(f"{good[:-2]}{last}=" for last in ALPHABET)):
        decoded = base64.b64decode(candidate + "=" * (-len(candidate) % 4))
        is_checksum = len(decoded) == size and base64.b64encode(decoded).decode() == candidate
        assert (re.search(pattern, candidate) is not None) is is_checksum, candidate


def modes_of(operation: Any) -> list[GenerationMode]:
    """Return how requests are made up: as the schema says, and against it where it says anything to go against."""
    speaks = operation.body or operation.path_parameters or operation.query or operation.headers
    return [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if speaks else [GenerationMode.POSITIVE]


def test_the_responses_match_the_document(address: str) -> None:
    document = schemathesis.openapi.from_url(f"{address}/openapi.json")
    # An unknown query parameter is ignored, as is usual in HTTP; tokens have a corpus of their own.
    document.config.generation.update(with_security_parameters=False, allow_extra_parameters=False)
    operations = [found.ok() for found in document.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) >= OPERATIONS
    for operation in operations:

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes_of(operation))))
        def answers_as_documented(case: Any) -> None:
            case.call_and_validate(headers=bearing(token()), excluded_checks=BEYOND_A_SCHEMA)

        answers_as_documented()
