"""The issue hook under examination: whether it is reachable, decides and verifies."""

import base64
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from broker.doctor import Finding, Verdict
from tests.doctor.answering import serving
from tests.doctor.deployed import Deployed, unhealthy

SECRET = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


@contextmanager
def application(status: int, answer: object, *, verifies: bool = True) -> Iterator[str]:
    """Run an application that decides so, after it has verified the question."""

    class Decide(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code, decision = status, answer
            if verifies:
                try:
                    Webhook(SECRET).verify(body, dict(self.headers))
                except WebhookVerificationError:
                    code, decision = 401, {"detail": "wrong signature"}
            document = json.dumps(decision).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Decide) as address:
        yield f"{address}/hook"


async def examined(deployed: Deployed, url: str, **changes: Any) -> Finding:
    hook: dict[str, Any] = {"issue_hook_url": url, "issue_hook_secrets": (SECRET,), "issue_hook_on_loopback": True}
    findings = await deployed.examine(queue_url=None, **hook | changes)
    assert unhealthy(findings).keys() <= {"issue hook"}
    (finding,) = [finding for finding in findings if finding.check == "issue hook"]
    return finding


@pytest.mark.parametrize(
    ("status", "answer", "said"), [(200, {}, "accepts"), (403, {"detail": "who is broker-doctor?"}, "refuses")]
)
async def test_a_hook_that_decides_and_verifies_is_healthy(
    deployed: Deployed, status: int, answer: object, said: str
) -> None:
    with application(status, answer) as url:
        finding = await examined(deployed, url)
    assert (finding.verdict, finding.detail) == (
        Verdict.OK,
        f"{url} {said} an upload, and answers no wrong signature",
    )


async def test_a_hook_that_does_not_verify(deployed: Deployed) -> None:
    with application(200, {}, verifies=False) as url:
        finding = await examined(deployed, url)
    assert (finding.verdict, finding.detail) == (Verdict.FAIL, f"{url} decides on a question with a wrong signature")


async def test_a_secret_that_is_not_the_application_s(deployed: Deployed) -> None:
    other = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    with application(200, {}) as url:
        finding = await examined(deployed, url, issue_hook_secrets=(other,))
    assert (finding.verdict, finding.detail) == (Verdict.FAIL, f"{url} gave no decision: it answered 401")
    assert "has a secret other than BROKER_ISSUE_HOOK_SECRETS" in (finding.cause or "")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/hook?key=hidden", "ConnectError"),
        ("https://127.0.0.1:9/hook", "AddressRefused: the host has an address that is not public"),
    ],
)
async def test_a_hook_that_cannot_be_reached(deployed: Deployed, url: str, reason: str) -> None:
    finding = await examined(deployed, url, issue_hook_on_loopback=url.startswith("http:"))
    assert finding.verdict is Verdict.FAIL
    assert finding.detail.startswith(f"{url.partition('?')[0]} gave no decision: {reason}")
    assert "hidden" not in str(finding)


async def test_a_hook_in_a_listed_network_is_reached(deployed: Deployed) -> None:
    with application(200, {}) as url:
        finding = await examined(deployed, url, issue_hook_on_loopback=False, private_networks=("127.0.0.0/8",))
    assert finding.verdict is Verdict.OK


async def test_no_hook_is_healthy(deployed: Deployed) -> None:
    findings = await deployed.examine(queue_url=None)
    assert [finding.detail for finding in findings if finding.check == "issue hook"] == ["none is set"]
