"""What a session keeps of AWS's description: all that botocore reads of it, without the prose."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.model import OperationModel, ServiceModel

from broker.aws.session import OPERATIONS, SERVICES, LeanLoader, aws_session, read_ahead

WHOLE = botocore.session.get_session().get_component("data_loader")


@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1"])
@pytest.mark.parametrize("service", ["s3", "sqs", "sts", "sso", "sso-oidc"])
def test_a_service_is_described_as_botocore_describes_it_without_its_prose(service: str, kind: str) -> None:
    lean, whole = LeanLoader().load_service_model(service, kind), WHOLE.load_service_model(service, kind)
    assert json.dumps(lean) == json.dumps(without_prose(whole))  # by which true is not 1


def test_there_is_no_prose() -> None:
    assert not any(prose_of(LeanLoader().load_service_model("s3", "service-2")))


def test_equal_parts_of_the_rules_of_endpoints_are_held_once() -> None:
    held: dict[str, set[int]] = {}
    for part in parts_of(LeanLoader().load_service_model("s3", "endpoint-rule-set-1")):
        held.setdefault(json.dumps(part), set()).add(id(part))
    assert len(held) > 500
    assert {len(same) for same in held.values()} == {1}


@pytest.mark.parametrize(
    "bucket", ["videos", "videos.of.ours", "arn:aws:s3:eu-central-1:123456789012:accesspoint/ours"]
)
def test_the_rules_of_endpoints_stay_as_they_were_read(bucket: str) -> None:
    session = aws_session()
    rules = session.get_component("data_loader").load_service_model("s3", "endpoint-rule-set-1")
    before = json.dumps(rules)
    keys = {"region_name": "eu-central-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
    for options in ({}, {"use_dualstack_endpoint": True}, {"s3": {"addressing_style": "path"}}):
        client = session.create_client("s3", config=Config(**options), **keys)
        with suppress(BotoCoreError):  # an access point has no path style
            assert client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"})
    assert json.dumps(rules) == before


def test_the_operations_that_are_called_are_described_in_full() -> None:
    lean = LeanLoader(operations=OPERATIONS).load_service_model("s3", "service-2")
    whole = LeanLoader().load_service_model("s3", "service-2")
    assert set(lean["operations"]) == OPERATIONS
    for name in OPERATIONS:
        assert reached_by(ServiceModel(lean).operation_model(name)) == reached_by(
            ServiceModel(whole).operation_model(name)
        )
    assert lean | {"operations": None, "shapes": None} == whole | {"operations": None, "shapes": None}
    assert len(lean["shapes"]) < len(whole["shapes"]) / 2


def test_a_client_has_the_operations_that_its_session_keeps() -> None:
    keys = {"region_name": "eu-central-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
    lean, whole = (session.create_client("s3", **keys) for session in (aws_session(), aws_session(operations=None)))
    assert {one for one in dir(lean) if one in whole.meta.method_to_api_mapping} == {
        xform_name(name) for name in OPERATIONS
    }
    assert len(whole.meta.method_to_api_mapping) > 100


def test_the_endpoints_of_the_services_that_are_asked_are_botocores() -> None:
    for lean, whole in zip(partitions(LeanLoader()), partitions(WHOLE), strict=True):
        assert lean["services"] == {name: known for name, known in whole["services"].items() if name in SERVICES}
        assert lean | {"services": None} == whole | {"services": None}


def test_a_service_whose_endpoints_are_not_kept_is_found_all_the_same() -> None:
    address = aws_session().create_client("kms", region_name="eu-central-1").meta.endpoint_url
    assert address == "https://kms.eu-central-1.amazonaws.com"


def test_models_that_a_user_adds_are_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own" / "2026-01-01").mkdir(parents=True)
    (tmp_path / "own" / "2026-01-01" / "service-2.json").write_text('{"metadata": {"serviceId": "own"}}')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_DATA_PATH", "~/nowhere:$HOME")
    assert "own" in aws_session().get_available_services()


@pytest.mark.parametrize("document", ["{}", "no JSON"])
def test_what_can_not_be_read_ahead_is_left_to_the_session(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, document: str
) -> None:
    (tmp_path / "s3" / "2099-01-01").mkdir(parents=True)
    (tmp_path / "s3" / "2099-01-01" / "service-2.json").write_text(document)
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    read_ahead()
    with pytest.raises((KeyError, ValueError)):
        aws_session().create_client("s3", region_name="eu-central-1")


def partitions(loader: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = loader.load_data("endpoints")["partitions"]
    return found


def reached_by(operation: OperationModel) -> list[Any]:
    """Return the shapes of what goes in, comes out and fails, and of all that these are made of, in full."""
    found: list[Any] = [operation.http, operation.auth_type, operation.http_checksum]
    seen: set[str] = set()
    waiting = [shape for shape in (operation.input_shape, operation.output_shape, *operation.error_shapes) if shape]
    while waiting:
        shape = waiting.pop()
        if shape.name in seen:
            continue
        seen.add(shape.name)
        found.append((shape.name, shape.type_name, shape.metadata, shape.serialization))
        waiting += shape.members.values() if shape.type_name == "structure" else []
        waiting += [shape.member] if shape.type_name == "list" else []
        waiting += [shape.key, shape.value] if shape.type_name == "map" else []
    return found


def parts_of(one: Any) -> Iterator[Any]:
    """Yield a description and all its objects and arrays."""
    if isinstance(one, dict | list):
        yield one
        for each in one.values() if isinstance(one, dict) else one:
            yield from parts_of(each)


def without_prose(one: Any) -> Any:
    if isinstance(one, list):
        return [without_prose(each) for each in one]
    if isinstance(one, dict):
        return {
            name: "" if name == "documentation" and isinstance(each, str) else without_prose(each)
            for name, each in one.items()
        }
    return one


def prose_of(one: Any) -> list[str]:
    if isinstance(one, list):
        return [prose for each in one for prose in prose_of(each)]
    if isinstance(one, dict):
        own = [one["documentation"]] if isinstance(one.get("documentation"), str) else []
        return own + [prose for each in one.values() for prose in prose_of(each)]
    return []
