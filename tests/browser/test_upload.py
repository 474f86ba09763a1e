"""The browser helper on an application's page, with the broker and S3 on two other origins."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, Request

from broker.dev.s3 import Fault
from tests.browser.recipes import recipe
from tests.browser.waiting import until
from tests.support.stack import BUCKET, Stack, token

MB = 1_000_000
UPLOAD_ALL = """async ({ module, token, more, stopAfter }) => {
    const { upload } = await import(module);
    const stop = new AbortController();
    const steps = [];
    let failed = false;
    const one = async (file, index) => {
        const onProgress = ({ state, loaded, mediaId, delay }) => {
            steps.push({ index, state, loaded, mediaId, delay });
            failed ||= state === "retrying";
            if (loaded > stopAfter) stop.abort();
        };
        const getToken = async () => {
            if (failed && window.onRetry) await window.onRetry();
            return token;
        };
        try {
            return { media: await upload(file, { getToken, onProgress, signal: stop.signal, ...more }) };
        } catch ({ name, code, message }) {
            return { error: { name, code, message } };
        }
    };
    const ends = await Promise.all(Array.from(document.querySelector("input").files, one));
    return { ends, steps };
}"""

START_ONE = """(token) => {
    window.states = [];
    const onProgress = ({ state }) => states.at(-1) !== state && states.push(state);
    const options = { getToken: () => token, onProgress, attempts: 1 };
    window.running = helper.upload(document.querySelector("input").files[0], options);
    return undefined;
}"""


NEWER_THAN_SAFARI_15_4 = [
    "AbortSignal.any",
    "AbortSignal.timeout",
    "Array.fromAsync",
    "Array.prototype.toReversed",
    "Array.prototype.toSorted",
    "Array.prototype.with",
    "Map.groupBy",
    "Object.groupBy",
    "Promise.try",
    "Promise.withResolvers",
    "Set.prototype.union",
    "URL.canParse",
    "Uint8Array.prototype.toBase64",
]
"""APIs of today's browsers that the oldest supported one does not have (caniuse.com, MDN)."""
REMOVE = (
    "{ const names = path.split('.'), last = names.pop(); delete names.reduce((o, name) => o[name], window)[last]; }"
)


@dataclass
class Outcome:
    """The results of uploads, and every step that their progress reported."""

    ends: list[dict[str, Any]]
    steps: list[dict[str, Any]]

    @property
    def error(self) -> dict[str, str]:
        """Return the only upload's error."""
        (end,) = self.ends
        error: dict[str, str] = end["error"]
        return error

    def states(self, index: int = 0) -> list[str]:
        """Return the states of one upload in order, without immediate repetitions."""
        reported = [step["state"] for step in self.steps if step["index"] == index]
        return [state for before, state in zip([None, *reported], reported, strict=False) if state != before]


Uploads = Callable[..., Outcome]


@pytest.fixture
def uploads(page: Page, stack: Stack) -> Uploads:
    """Return a function that uploads files from the application's page."""
    page.goto(stack.app)

    def run(*paths: Path, stop_after: int | None = None, **more: object) -> Outcome:
        page.set_input_files("input", paths)
        options = {"module": stack.module, "token": token(), "more": more, "stopAfter": stop_after or 10**12}
        return Outcome(**page.evaluate(UPLOAD_ALL, options))

    return run


def test_five_files_upload_three_at_a_time_with_rising_progress(
    uploads: Uploads, big_file: Callable[[int], Path], context: BrowserContext, page: Page
) -> None:
    # Otherwise an upload may finish before the browser first reports progress.
    _throttle(context, page, bytes_per_second=60 * MB)
    outcome = uploads(*[big_file(20 * MB)] * 5)
    assert [end["media"]["status"] for end in outcome.ends] == ["ready"] * 5
    assert len({end["media"]["media_id"] for end in outcome.ends}) == 5
    for index in range(5):
        assert outcome.states(index) == ["waiting", "asking", "sending", "confirming", "ready"]
        loaded = [step["loaded"] for step in outcome.steps if step["index"] == index]
        assert loaded == sorted(loaded)
        assert loaded[-1] == 20 * MB
        assert len(set(loaded)) >= 3
    running: set[int] = set()
    highest = 0
    for step in outcome.steps:
        if step["state"] == "ready":
            running.discard(step["index"])
        elif step["state"] != "waiting":
            running.add(step["index"])
        highest = max(highest, len(running))
    assert highest == 3


@pytest.mark.parametrize(
    "fault",
    [
        # Chromium itself retries once, invisibly, if a reused connection is reset.
        Fault("PostObject", reset=True, count=2),
        Fault("PostObject", code="SlowDown", status=503),
        Fault("PostObject", code="InternalError", status=500, count=2),
    ],
    ids=["a dropped connection", "SlowDown", "two failures of S3"],
)
def test_a_temporary_failure_is_retried(uploads: Uploads, stack: Stack, film: Path, fault: Fault) -> None:
    stack.s3.order_fault(fault)
    outcome = uploads(film)
    assert outcome.ends[0]["media"]["status"] == "ready"
    tries = outcome.states().count("retrying")
    assert 1 <= tries <= fault.count
    assert outcome.states() == ["waiting", "asking", *["sending", "retrying"] * tries, "sending", "confirming", "ready"]


def test_a_file_that_arrived_while_its_answer_was_lost_is_not_sent_again(
    uploads: Uploads, stack: Stack, film: Path
) -> None:
    stack.s3.order_fault(Fault("PostObject", reset=True, when="after", count=2))
    outcome = uploads(film)
    assert outcome.ends[0]["media"]["status"] == "ready"
    assert outcome.states() == ["waiting", "asking", "sending", "retrying", "confirming", "ready"]


def test_a_503_of_the_broker_is_retried_after_its_retry_after(
    uploads: Uploads, stack: Stack, page: Page, film: Path
) -> None:
    page.expose_function("onRetry", stack.s3.clear_faults)
    stack.s3.order_fault(Fault("HeadObject", code="ServiceUnavailable", status=503, count=50))
    outcome = uploads(film)
    assert outcome.ends[0]["media"]["status"] == "ready"
    assert outcome.states() == ["waiting", "asking", "sending", "confirming", "retrying", "confirming", "ready"]
    (delay,) = [step["delay"] for step in outcome.steps if step["state"] == "retrying"]
    assert delay >= 5


def test_an_abort_stops_the_transfer_and_deletes_the_media(
    uploads: Uploads, stack: Stack, page: Page, context: BrowserContext, big_file: Callable[[int], Path]
) -> None:
    _throttle(context, page, bytes_per_second=8 * MB)
    failures: list[Request] = []
    page.on("requestfailed", lambda request: failures.append(request))
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as deleted:
        outcome = uploads(big_file(60 * MB), stop_after=4 * MB)
    assert outcome.error["name"] == "AbortError"
    assert outcome.steps[-1]["loaded"] < 30 * MB
    assert [failure.url for failure in failures] == [f"{stack.s3.endpoint_url}/{BUCKET}/"]
    assert deleted.value.status == 200
    media_id = outcome.steps[-1]["mediaId"]
    assert media_id not in [key.rpartition("/")[2] for key in _keys(stack, "staging/")]


GLOBALS = """({ prefix, token }) => {
    const messages = [];
    Object.assign(window, { prefix, getToken: () => token, messages, alert: (text) => messages.push(text) });
}"""
AROUND_SEVERAL = """<progress max="1" value="0"></progress>
<script type="module">
  const input = {{ files: [new File([], "empty.mp4", {{ type: "video/mp4" }})] }};
  const bars = [document.querySelector("progress")], stops = [new AbortController()];
  {code}
  alert(results[0].reason.message);
</script>"""


@pytest.mark.parametrize("heading", ["The browser helper", "Several files"])
def test_the_guides_code_shows_why_an_empty_file_is_refused(
    page: Page, stack: Stack, tmp_path: Path, heading: str
) -> None:
    (tmp_path / "empty.mp4").touch()
    wish = {"content_type": "video/mp4", "size": 0, "filename": "empty.mp4"}
    refusal = httpx.post(f"{stack.prefix}/upload", json=wish, headers={"Authorization": f"Bearer {token()}"})
    assert refusal.status_code == 422
    if heading == "Several files":
        (code,) = recipe(heading)
        html = AROUND_SEVERAL.format(code=code.replace("s3-media-broker-web", stack.module))
    else:
        (html,) = recipe(heading, "html")
    page.goto(stack.app)
    page.evaluate(GLOBALS, {"prefix": stack.prefix, "token": token()})
    page.set_content(html.replace("https://api.example/api/v1/s3-media", stack.prefix))
    if heading == "The browser helper":
        until(page, "document.querySelector('input').onchange !== null")
        page.set_input_files("input", tmp_path / "empty.mp4")
    until(page, "messages.length > 0")
    assert page.evaluate("messages") == [refusal.json()["detail"]]


@pytest.mark.parametrize(
    ("seconds", "media"), [(1000, 1), (4000, 2)], ids=["within the hour: the same media", "later: a new media"]
)
def test_an_expired_policy_is_renewed(
    uploads: Uploads, stack: Stack, page: Page, film: Path, seconds: int, media: int
) -> None:
    def back_to_now() -> None:
        stack.clock.ahead = timedelta()

    page.expose_function("onRetry", back_to_now)
    stack.clock.ahead = timedelta(seconds=-seconds)
    outcome = uploads(film)
    assert outcome.ends[0]["media"]["status"] == "ready"
    assert len({step["mediaId"] for step in outcome.steps if step["mediaId"]}) == media
    assert outcome.states().count("sending") == 2


def test_the_error_for_a_large_file_names_the_limit(uploads: Uploads, big_file: Callable[[int], Path]) -> None:
    outcome = uploads(big_file(100 * MB + 1))
    assert outcome.error["message"] == "The file is larger than 100 MB. Choose a smaller one."


def test_the_error_for_another_type_is_the_brokers_message(uploads: Uploads, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a film")
    error = uploads(path).error
    assert error["code"] == "type-not-allowed"
    assert "video/mp4" in error["message"]


def test_the_error_for_a_bucket_without_cors_names_the_origin(
    uploads: Uploads, stack: Stack, film: Path, no_cors: None
) -> None:
    error = uploads(film).error
    assert error["code"] == "cors"
    assert f"Your bucket's CORS does not list this origin ({stack.app})." in error["message"]


def test_an_offline_page_waits_for_its_network_and_spends_no_try(
    context: BrowserContext, page: Page, stack: Stack, film: Path
) -> None:
    page.goto(stack.app)
    page.set_input_files("input", film)
    page.evaluate("async (module) => (window.helper = await import(module)) && undefined", stack.module)
    context.set_offline(True)
    page.evaluate(START_ONE, token())
    until(page, "states.at(-1) === 'offline'")
    context.set_offline(False)
    assert page.evaluate("running.then(({ status }) => status)") == "ready"
    assert page.evaluate("states") == ["waiting", "asking", "offline", "asking", "sending", "confirming", "ready"]


def test_a_checksum_is_computed_in_a_worker_and_sent_to_s3(
    uploads: Uploads, stack: Stack, page: Page, film: Path
) -> None:
    with page.expect_request(lambda request: request.url.endswith("/upload") and request.method == "POST") as asked:
        outcome = uploads(film, checksum=True)
    expected = base64.b64encode(hashlib.sha256(film.read_bytes()).digest()).decode()
    assert json.loads(asked.value.post_data or "")["checksum_sha256"] == expected
    assert outcome.states()[:3] == ["waiting", "checking", "asking"]
    assert outcome.ends[0]["media"]["status"] == "ready"


def test_a_checksum_of_other_bytes_is_refused(uploads: Uploads, film: Path) -> None:
    outcome = uploads(film, checksum=base64.b64encode(bytes(32)).decode(), attempts=1)
    assert outcome.error["code"] == "BadDigest"


def test_a_browser_as_old_as_safari_15_4_uploads_with_a_checksum(
    context: BrowserContext, uploads: Uploads, page: Page, stack: Stack, film: Path
) -> None:
    context.add_init_script(f"for (const path of {json.dumps(NEWER_THAN_SAFARI_15_4)}) {REMOVE}")
    page.goto(stack.app)
    assert page.evaluate("[typeof AbortSignal.any, typeof AbortSignal.timeout]") == ["undefined", "undefined"]
    outcome = uploads(film, checksum=True)
    assert outcome.ends[0].get("error") is None
    assert outcome.ends[0]["media"]["status"] == "ready"


@pytest.fixture
def no_cors(stack: Stack) -> Iterator[None]:
    """Remove the bucket's CORS rules for one test."""
    client = stack.s3_client()
    rules = client.get_bucket_cors(Bucket=BUCKET)["CORSRules"]
    client.delete_bucket_cors(Bucket=BUCKET)
    yield
    client.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": rules})


def _throttle(context: BrowserContext, page: Page, *, bytes_per_second: int) -> None:
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    session.send("Network.emulateNetworkConditions", limits)


def _keys(stack: Stack, prefix: str) -> list[str]:
    listing = stack.s3_client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return [item["Key"] for item in listing.get("Contents", [])]
