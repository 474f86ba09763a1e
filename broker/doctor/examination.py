"""The examination: the list of checks, their order and dependencies, and the time limit of each."""

import asyncio
from collections.abc import Awaitable, Callable

from botocore.exceptions import BotoCoreError

from broker.doctor.checks import (
    composition,
    configuration,
    contact,
    cors,
    distribution,
    hook,
    lifecycle,
    promotion,
    queue,
    services,
    trial,
)
from broker.doctor.checks.absence import absence
from broker.doctor.checks.contact import Contact
from broker.doctor.deployment import Deployment, Patient, Refused, opened
from broker.doctor.finding import Finding, Verdict, fail, skip
from broker.errors import BrokerError

CHECK_SECONDS = 45.0
"""The time limit of one check with all its requests."""

Check = Callable[[Patient], Awaitable[Finding | list[Finding]]]


async def examine(deployment: Deployment) -> list[Finding]:
    """Return the findings of all checks, the most basic first. No object of the examination stays in the bucket."""
    try:
        return await _examine(deployment)
    except BotoCoreError as error:
        return [
            fail(
                "credentials",
                f"no AWS session can be created: {error}",
                cause="AWS_PROFILE, AWS_CONFIG_FILE or another AWS variable names something that does not exist",
                fix="env | grep ^AWS_ | cut -d= -f1  # then unset the wrong ones",
            )
        ]


async def _examine(deployment: Deployment) -> list[Finding]:
    async with opened(deployment) as patient:
        service_checks = [
            asyncio.create_task(_bounded("database", services.database, patient)),
            asyncio.create_task(_bounded("token keys", services.token_keys, patient)),
            asyncio.create_task(_bounded("rate limits", services.redis, patient)),
            asyncio.create_task(_bounded("webhooks", services.webhooks, patient)),
            asyncio.create_task(_bounded("issue hook", hook.issue_hook, patient)),
        ]
        findings = await _storage(patient)
        for results in await asyncio.gather(*service_checks):
            findings += results
    return findings


async def _storage(patient: Patient) -> list[Finding]:
    findings = [await contact.credentials(patient)]
    first = await contact.first_contact(patient)
    if first is None:
        return [*findings, skip("bucket", "there are no keys to sign with")]
    basics = [contact.clock(first), contact.endpoint(first, patient)]
    findings += basics
    if any(finding.verdict is Verdict.FAIL for finding in basics):
        return [*findings, skip("bucket", "S3 refuses signatures of this clock and region")]
    findings.append(await contact.access(first, patient))
    if not _may_be_examined(first, findings[-1]):
        return [*findings, skip("bucket", "the keys have no access to it")]
    bucket_checks: list[tuple[str, Check]] = [
        ("absent object", absence),
        ("public access", configuration.public_access),
        ("ownership", configuration.ownership),
        ("encryption", configuration.encryption),
        ("transport", configuration.transport),
        ("lifecycle", lifecycle.removal),
        ("CORS", cors.pages),
        ("upload", _life),
        ("queue", queue.events),
    ]
    for results in await asyncio.gather(*(_bounded(name, check, patient) for name, check in bucket_checks)):
        findings += results
    return findings


def _may_be_examined(first: Contact, access: Finding) -> bool:
    # Most checks work without s3:ListBucket, too.
    return access.verdict is Verdict.OK or first.code == "AccessDenied"


async def _life(patient: Patient) -> list[Finding]:
    """Upload, promote, play and delete one object; it is removed whatever happens."""
    findings: list[Finding] = []
    written = [patient.staging_key(purpose) for purpose in ("upload", *trial.INVALID_FORMS)]
    written += [patient.final_key(), patient.composed_key()]
    try:
        findings += await trial.valid_upload(patient)
        if findings[0].verdict is not Verdict.OK:
            return findings
        findings += await trial.invalid_uploads(patient)
        findings += await promotion.promotion(patient)
        if findings[-1].verdict is not Verdict.FAIL:
            findings += await promotion.playback(patient)
            findings += await distribution.distribution(patient)
            findings.append(await promotion.strangers(patient))
            findings.append(await composition.composition(patient))
        return findings
    finally:
        findings.append(await promotion.removal(patient, written))


async def _bounded(name: str, check: Check, patient: Patient) -> list[Finding]:
    """Run a check. A timeout or an error becomes a finding."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            result = await check(patient)
    except TimeoutError:
        reason = f"it did not end within {CHECK_SECONDS:g} s"
    except (BrokerError, Refused) as error:
        reason = str(error)
    except Exception as error:
        # An unexpected response must not hide the other findings.
        reason = f"it failed ({type(error).__name__})"
    else:
        return result if isinstance(result, list) else [result]
    return [
        fail(
            name,
            reason,
            cause="the server stopped answering, or its responses are not those of S3",
            fix=patient.s3api("head-bucket"),
        )
    ]
