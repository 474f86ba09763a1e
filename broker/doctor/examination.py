"""The examination: which checks there are, what has to be well before the next is worth a look, and how long each may
take."""

import asyncio
from collections.abc import Awaitable, Callable

from botocore.exceptions import BotoCoreError

from broker.doctor.checks import (
    configuration,
    contact,
    cors,
    distribution,
    lifecycle,
    promotion,
    queue,
    services,
    trial,
)
from broker.doctor.checks.absence import absence
from broker.doctor.checks.contact import Contact
from broker.doctor.deployment import Deployment, Patient, Refused, visited
from broker.doctor.finding import Finding, Verdict, fail, skip
from broker.errors import BrokerError

CHECK_SECONDS = 45.0
"""How long one check may take, all its requests together."""

Check = Callable[[Patient], Awaitable[Finding | list[Finding]]]


async def examine(deployment: Deployment) -> list[Finding]:
    """Return what all checks found, in the order in which an operator would ask. Nothing of it stays in the bucket."""
    try:
        return await _examine(deployment)
    except BotoCoreError as error:
        return [
            fail(
                "credentials",
                f"no session of AWS can be made: {error}",
                cause="AWS_PROFILE, AWS_CONFIG_FILE or another variable of AWS names what is not there",
                mend="env | grep ^AWS_ | cut -d= -f1  # and unset what should not be set",
            )
        ]


async def _examine(deployment: Deployment) -> list[Finding]:
    async with visited(deployment) as patient:
        beside = [
            asyncio.create_task(_bounded("database", services.database, patient)),
            asyncio.create_task(_bounded("token keys", services.token_keys, patient)),
            asyncio.create_task(_bounded("rate limits", services.redis, patient)),
            asyncio.create_task(_bounded("webhooks", services.webhooks, patient)),
        ]
        findings = await _storage(patient)
        for found in await asyncio.gather(*beside):
            findings += found
    return findings


async def _storage(patient: Patient) -> list[Finding]:
    findings = [await contact.credentials(patient)]
    touched = await contact.first_contact(patient)
    if touched is None:
        return [*findings, skip("bucket", "no keys can sign")]
    first = [contact.clock(touched), contact.endpoint(touched, patient)]
    findings += first
    if any(finding.verdict is Verdict.FAIL for finding in first):
        return [*findings, skip("bucket", "S3 does not believe what is signed here and now")]
    findings.append(await contact.access(touched, patient))
    if not _is_worth_a_look(touched, findings[-1]):
        return [*findings, skip("bucket", "the keys may not use it")]
    together: list[tuple[str, Check]] = [
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
    for found in await asyncio.gather(*(_bounded(name, check, patient) for name, check in together)):
        findings += found
    return findings


def _is_worth_a_look(touched: Contact, access: Finding) -> bool:
    # Without s3:ListBucket much can be tried all the same.
    return access.verdict is Verdict.OK or touched.code == "AccessDenied"


async def _life(patient: Patient) -> list[Finding]:
    """Lead one object through its life, and remove it whatever happens."""
    findings: list[Finding] = []
    written = [patient.staging_key(purpose) for purpose in ("upload", *trial.EVILS)] + [patient.final_key()]
    try:
        findings += await trial.good_upload(patient)
        if findings[0].verdict is not Verdict.OK:
            return findings
        findings += await trial.evil_uploads(patient)
        findings += await promotion.promotion(patient)
        if findings[-1].verdict is not Verdict.FAIL:
            findings += await promotion.playback(patient)
            findings += await distribution.distribution(patient)
            findings.append(await promotion.strangers(patient))
        return findings
    finally:
        findings.append(await promotion.removal(patient, written))


async def _bounded(name: str, check: Check, patient: Patient) -> list[Finding]:
    """Run a check; one that takes too long or breaks off is a finding too."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            found = await check(patient)
    except TimeoutError:
        reason = f"no end within {CHECK_SECONDS:g} s"
    except (BrokerError, Refused) as error:
        reason = str(error)
    except Exception as error:
        # A server that answers what no S3 answers must not hide the other findings.
        reason = f"it broke off ({type(error).__name__})"
    else:
        return found if isinstance(found, list) else [found]
    return [
        fail(
            name,
            reason,
            cause="the server stopped answering, or answers as no S3 does",
            mend=patient.s3api("head-bucket"),
        )
    ]
