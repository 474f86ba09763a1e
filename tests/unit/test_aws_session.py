"""What a session keeps of AWS's description: all that botocore reads of it, without the prose."""

from typing import Any

import botocore.session
import pytest

from broker.aws_session import SERVICES, LeanLoader, aws_session

WHOLE = botocore.session.get_session().get_component("data_loader")


@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1"])
@pytest.mark.parametrize("service", ["s3", "sqs", "sts", "sso", "sso-oidc"])
def test_a_service_is_described_as_botocore_describes_it_without_its_prose(service: str, kind: str) -> None:
    assert LeanLoader().load_service_model(service, kind) == without_prose(WHOLE.load_service_model(service, kind))


def test_there_is_no_prose() -> None:
    assert not any(prose_of(LeanLoader().load_service_model("s3", "service-2")))


def test_the_endpoints_of_the_services_that_are_asked_are_botocores() -> None:
    for lean, whole in zip(partitions(LeanLoader()), partitions(WHOLE), strict=True):
        assert lean["services"] == {name: known for name, known in whole["services"].items() if name in SERVICES}
        assert lean | {"services": None} == whole | {"services": None}


def test_a_service_whose_endpoints_are_not_kept_is_found_all_the_same() -> None:
    address = aws_session().client("kms", region_name="eu-central-1").meta.endpoint_url
    assert address == "https://kms.eu-central-1.amazonaws.com"


def test_models_that_a_user_adds_are_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own" / "2026-01-01").mkdir(parents=True)
    (tmp_path / "own" / "2026-01-01" / "service-2.json").write_text('{"metadata": {"serviceId": "own"}}')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_DATA_PATH", "~/nowhere:$HOME")
    assert "own" in aws_session().get_available_services()


def partitions(loader: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = loader.load_data("endpoints")["partitions"]
    return found


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
