"""The check of the issue hook: it is reachable, decides, and verifies signatures."""

import asyncio
import base64
import secrets
from collections.abc import Sequence

from broker.doctor.deployment import Deployment, Patient
from broker.doctor.finding import Finding, fail, ok
from broker.domain.origin import bare
from broker.egress.public_network import PublicNetwork
from broker.egress.signed_posts import SignedPosts
from broker.lifecycle.application.deciding import IssueAccepted, IssueRequest
from broker.lifecycle.application.issue_hook import HookFailed, IssueHook
from broker.lifecycle.requests import UploadRequest

CHECK = "issue hook"
CALLER = "broker-doctor"
"""The caller in the doctor's question. No media follows from it, whatever the application decides."""


async def issue_hook(patient: Patient) -> Finding:
    """Ask the application about an upload twice: with the right signature, and with a wrong one."""
    deployment = patient.deployment
    url = deployment.issue_hook_url
    if url is None:
        return ok(CHECK, "none is set")
    try:
        decision = await _decision(deployment, url, deployment.issue_hook_secrets)
    except (HookFailed, TimeoutError) as error:
        reason = str(error) or f"it did not answer within {deployment.issue_hook_seconds:g} s"
        return fail(
            CHECK,
            f"{bare(url)} gave no decision: {reason}",
            cause="it is down, cannot be reached from here, is not public, or has a secret other than "
            "BROKER_ISSUE_HOOK_SECRETS; meanwhile no upload is issued",
            fix=f"curl -sv -X POST {bare(url)}  # an application that runs and verifies answers 401",
        )
    try:
        await _decision(deployment, url, [_unknown_secret()])
    except (HookFailed, TimeoutError):
        said = "accepts" if isinstance(decision, IssueAccepted) else "refuses"
        return ok(CHECK, f"{bare(url)} {said} an upload, and answers no wrong signature")
    return fail(
        CHECK,
        f"{bare(url)} decides on a question with a wrong signature",
        cause="it does not verify signatures, so anyone may ask it about users and uploads",
        fix="verify the signature with a library of https://www.standardwebhooks.com; answer 401 to a wrong one",
    )


async def _decision(deployment: Deployment, url: str, signing: Sequence[str]) -> object:
    network = PublicNetwork(loopback=deployment.issue_hook_on_loopback, private=deployment.private_networks)
    hook = IssueHook(url, SignedPosts(signing, network, proxy=deployment.egress_proxy))
    upload = UploadRequest(deployment.content_type, size=1, filename="doctor")
    question = IssueRequest(caller=CALLER, permissions=frozenset(), owner=CALLER, upload=upload)
    try:
        async with asyncio.timeout(deployment.issue_hook_seconds):
            return await hook.ask(question)
    finally:
        await hook.close()


def _unknown_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
