"""The functions of a host application: `on_issue` decides on uploads, `on_ready` hears of ready media."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from broker import IssueAccepted, IssueRefused, IssueRequest, ReadyMedia, create_router
from broker.app import PREFIX
from broker.errors import SettingsInvalid
from broker.lifecycle.requests import UploadRequest
from tests.support.serving import asking, bearing, client_of, settings_of, token

HEADERS = bearing(token("anna"))
UPLOAD = {"content_type": "video/mp4", "size": 1000, "metadata": {"chat": "7"}}


def kind(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("type", "").removeprefix("urn:s3-media:problem:")


async def test_the_function_is_given_the_caller_and_what_is_asked(tmp_path: Path) -> None:
    questions: list[IssueRequest] = []

    async def on_issue(request: IssueRequest) -> None:
        questions.append(request)

    async with asking(on_issue, tmp_path) as client:
        assert (await client.post("/upload", json=UPLOAD, headers=HEADERS)).status_code == 201
    assert questions == [
        IssueRequest(
            caller="anna",
            permissions=frozenset({"media:upload", "media:read", "media:delete"}),
            owner="anna",
            upload=UploadRequest("video/mp4", size=1000, metadata={"chat": "7"}),
        )
    ]


async def test_the_function_refuses_with_a_reason(tmp_path: Path) -> None:
    async def on_issue(request: IssueRequest) -> IssueRefused:
        return IssueRefused(f"{request.caller} is no\x00 member\ud800.")

    async with asking(on_issue, tmp_path) as client:
        refused = await client.post("/upload", json=UPLOAD, headers=HEADERS)
        assert kind(refused) == (403, "upload-refused")
        assert refused.json()["detail"] == "anna is no member."
        assert (await client.get("/", headers=HEADERS)).json()["media"] == []


async def test_the_function_sets_owner_and_metadata(tmp_path: Path) -> None:
    async def on_issue(request: IssueRequest) -> IssueAccepted:
        return IssueAccepted(owner="chat 7", metadata={"by": request.caller})

    async with asking(on_issue, tmp_path) as client:
        issued = (await client.post("/upload", json=UPLOAD, headers=HEADERS)).json()
        (media,) = (await client.get("/", headers=bearing(token("chat 7")))).json()["media"]
    assert (media["media_id"], media["metadata"]) == (issued["media_id"], {"by": "anna"})
    assert issued["upload_token"].startswith("s3mu_")


async def test_a_function_that_does_not_return_in_time_is_away(tmp_path: Path) -> None:
    async def on_issue(request: IssueRequest) -> None:
        await asyncio.sleep(600)

    async with asking(on_issue, tmp_path, issue_hook_seconds=0.1) as client:
        assert kind(await client.post("/upload", json=UPLOAD, headers=HEADERS)) == (503, "application-away")


@pytest.mark.parametrize("returned", [True, "no", {"owner": "berta"}])
async def test_anything_else_that_the_function_returns_is_its_failure(tmp_path: Path, returned: Any) -> None:
    async def on_issue(request: IssueRequest) -> Any:
        return returned

    async with asking(on_issue, tmp_path) as client:
        assert kind(await client.post("/upload", json=UPLOAD, headers=HEADERS)) == (500, "internal")
        assert (await client.get("/", headers=HEADERS)).json()["media"] == []


@pytest.mark.parametrize("error", [ZeroDivisionError(), TimeoutError()])
async def test_what_the_function_raises_reaches_the_server_and_nothing_is_issued(
    tmp_path: Path, error: Exception
) -> None:
    async def on_issue(request: IssueRequest) -> None:
        raise error

    async with asking(on_issue, tmp_path) as client:
        assert kind(await client.post("/upload", json=UPLOAD, headers=HEADERS)) == (500, "internal")
        assert (await client.get("/", headers=HEADERS)).json()["media"] == []
    async with asking(on_issue, tmp_path, raised=True) as client:
        with pytest.raises(type(error)):
            await client.post("/upload", json=UPLOAD, headers=HEADERS)
        assert (await client.get("/", headers=HEADERS)).json()["media"] == []


@pytest.mark.parametrize(
    "decision",
    [
        {"owner": ""},
        {"owner": " anna"},
        {"owner": "a" * 256},
        {"owner": "a\nb"},
        {"metadata": {"a": "\x00"}},
        {"metadata": {"a": "b" * 2048}},
        {"metadata": {"a": 7}},
    ],
)
def test_a_decision_that_the_broker_could_not_record_cannot_be_made(decision: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"should|too large"):
        IssueAccepted(**decision)


async def test_a_repeated_request_does_not_call_the_function_again(tmp_path: Path) -> None:
    calls: list[str] = []

    async def on_issue(request: IssueRequest) -> IssueAccepted:
        calls.append(request.caller)
        return IssueAccepted(owner=f"owner {len(calls)}")

    keyed = HEADERS | {"Idempotency-Key": "k"}
    async with asking(on_issue, tmp_path) as client:
        answers = [(await client.post("/upload", json=UPLOAD, headers=keyed)).json() for _ in range(3)]
        assert len({answer["media_id"] for answer in answers}) == 1
        assert all("upload_token" in answer for answer in answers)
    assert calls == ["anna"]


async def test_a_mounted_router_has_the_functions_too(tmp_path: Path) -> None:
    async def on_issue(request: IssueRequest) -> IssueRefused:
        return IssueRefused("Not today.")

    host = FastAPI()
    host.include_router(create_router(settings_of(tmp_path), on_issue=on_issue), prefix=PREFIX)
    async with client_of(host) as client:
        refused = await client.post(f"{PREFIX}/upload", json=UPLOAD, headers=HEADERS)
    assert (refused.status_code, refused.json()["detail"]) == (403, "Not today.")


def test_functions_that_the_settings_contradict_are_refused_at_construction(tmp_path: Path) -> None:
    async def on_issue(request: IssueRequest) -> None: ...

    async def on_ready(media: ReadyMedia) -> None: ...

    secret = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    hooked = settings_of(tmp_path, issue_hook_url="https://app.example/", issue_hook_secrets=secret)
    with pytest.raises(SettingsInvalid, match="BROKER_ISSUE_HOOK_URL: should not be set if on_issue is given"):
        create_router(hooked, on_issue=on_issue)
    with pytest.raises(SettingsInvalid, match="BROKER_SWEEP: should be true if on_ready is given"):
        create_router(settings_of(tmp_path), on_ready=on_ready)
