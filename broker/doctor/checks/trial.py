"""The trial: real forms, good and evil, posted as a browser would.

Source: Amazon S3 API Reference, "POST Object" and "Creating a POST policy".
"""

import asyncio
import base64
from dataclasses import dataclass, replace
from datetime import timedelta

import httpx

from broker.doctor.deployment import Patient
from broker.doctor.finding import Finding, fail, ok, warn
from broker.domain.policy import Promise
from broker.domain.sigv4 import Credentials

VIDEO = b"the doctor's trial upload, which is no video at all: 64 bytes...".ljust(64, b".")
OTHER_VIDEO = VIDEO[::-1]
TRIAL_SECONDS = 300
LONG_AGO = timedelta(hours=2)
EVILS = ("oversize", "type", "altered", "expired")

_ENFORCERS = "use AWS S3, Ceph RGW, or `broker dev --s3-only`; never a server that only pretends"


@dataclass(frozen=True, slots=True)
class Form:
    """Hold signed fields and the file that is posted with them."""

    fields: dict[str, str]
    file: bytes = VIDEO


def promise(patient: Patient, purpose: str) -> Promise:
    """Return a policy for exactly the trial's file."""
    content_type = patient.deployment.content_type
    return Promise(patient.name, patient.staging_key(purpose), content_type, len(VIDEO), len(VIDEO))


def good_form(patient: Patient, keys: Credentials, purpose: str) -> Form:
    """Return a form as the broker issues it."""
    return Form(patient.bucket.sign_upload(promise(patient, purpose), keys, now=patient.now, expires_in=TRIAL_SECONDS))


def evil_form(patient: Patient, keys: Credentials, evil: str) -> Form:
    """Return a form that S3 must refuse: its file is too long, or its type, policy or time is not the signed one."""
    good = good_form(patient, keys, evil)
    match evil:
        case "oversize":
            return replace(good, file=VIDEO + b"!")
        case "type":
            return replace(good, fields={**good.fields, "Content-Type": "text/html"})
        case "altered":
            # One blank more: the same promises, but not the bytes that were signed.
            policy = base64.b64decode(good.fields["policy"]) + b" "
            return replace(good, fields={**good.fields, "policy": base64.b64encode(policy).decode()})
        case _:
            long_ago = patient.now - LONG_AGO
            return Form(patient.bucket.sign_upload(promise(patient, evil), keys, now=long_ago, expires_in=60))


async def post(patient: Patient, form: Form) -> httpx.Response:
    """Post a form as a page of the first origin does."""
    origins = patient.deployment.page_origins
    headers = {"Origin": origins[0]} if origins else {}
    files = {"file": ("clip.mp4", form.file, patient.deployment.content_type)}
    return await patient.http.post(patient.bucket.form_url, data=form.fields, files=files, headers=headers)


async def good_upload(patient: Patient) -> list[Finding]:
    """Post what must be taken, and look at it."""
    keys = await patient.keys()
    answer = await post(patient, good_form(patient, keys, "upload"))
    if not answer.is_success:
        return [
            fail(
                "upload",
                f"a good form is answered {answer.status_code} {code(answer)}",
                cause="the signing keys lack s3:PutObject under staging/, or a policy or KMS denies it: a form carries "
                "the rights of whoever signed it",
                mend=patient.aws(
                    "iam",
                    "simulate-principal-policy",
                    "--policy-source-arn",
                    "ROLE_ARN",
                    "--action-names",
                    "s3:PutObject",
                    "--resource-arns",
                    f"{patient.arn}/staging/x",
                ),
                terraform='statement "SignForms" in aws_iam_policy.signer',
            )
        ]
    arrived = await patient.bucket.head(patient.staging_key("upload"))
    promised = (len(VIDEO), patient.deployment.content_type)
    if arrived is None or (arrived.size, arrived.content_type) != promised:
        found = "nothing" if arrived is None else f"{arrived.size} bytes of {arrived.content_type}"
        return [
            fail(
                "upload",
                f"a form was taken ({answer.status_code}), but a HEAD finds {found}",
                cause="the address of forms is not that of the broker, or the server keeps something else",
                mend="export BROKER_S3_PUBLIC_ENDPOINT_URL=…  # the same S3 as BROKER_S3_ENDPOINT_URL",
            )
        ]
    return [ok("upload", f"a good form is taken ({answer.status_code}), and a HEAD confirms it"), _told(answer)]


def _told(answer: httpx.Response) -> Finding:
    missing = [name for name in ("ETag", "Location") if name not in answer.headers]
    if not missing:
        return ok("upload answer", "carries ETag and Location")
    return warn(
        "upload answer",
        f"without {' and '.join(missing)}",
        cause="this server leaves out headers that AWS sends; upload libraries such as Uppy wait for them",
        mend="use `broker-upload.js`, which does not need them",
    )


async def evil_uploads(patient: Patient) -> list[Finding]:
    """Post what must be refused. Where any is taken, the first finding says so loudly."""
    keys = await patient.keys()
    answers = await asyncio.gather(*(post(patient, evil_form(patient, keys, evil)) for evil in EVILS))
    stored = await asyncio.gather(*(patient.bucket.head(patient.staging_key(evil)) for evil in EVILS))
    findings, taken = [], []
    for evil, answer, object_ in zip(EVILS, answers, stored, strict=True):
        what = _WORDS[evil]
        if answer.is_success or object_ is not None:
            taken.append(what)
            findings.append(
                fail(
                    f"refuses {evil}",
                    f"{what} was TAKEN ({answer.status_code})",
                    cause="the server does not look at this part of a policy",
                    mend=_ENFORCERS,
                )
            )
        else:
            findings.append(ok(f"refuses {evil}", f"{what}: {answer.status_code} {code(answer)}"))
    return [_enforcement(taken), *findings]


_WORDS = {
    "oversize": "a file longer than was promised",
    "type": "another type than was promised",
    "altered": "a policy that was altered after it was signed",
    "expired": "a policy that had expired",
}


def _enforcement(taken: list[str]) -> Finding:
    if not taken:
        return ok("policies", "are enforced")
    return fail(
        "policies",
        f"THIS SERVER DOES NOT ENFORCE POLICIES. It took {', and '.join(taken)}",
        cause="whoever holds one form can store anything; plain moto and LocalStack behave so",
        mend=_ENFORCERS,
        loud=True,
    )


def code(answer: httpx.Response) -> str:
    """Return the error code that an answer names, as S3 and CloudFront write it."""
    return answer.text.partition("<Code>")[2].partition("</Code>")[0]
