"""The trial uploads: valid and invalid forms, posted as a browser does.

Source: Amazon S3 API Reference, "POST Object" and "Creating a POST policy".
"""

import asyncio
import base64
from dataclasses import dataclass, replace
from datetime import timedelta

import httpx

from broker.doctor.deployment import Patient
from broker.doctor.finding import Finding, fail, ok, warn
from broker.domain.origin import example_of
from broker.domain.s3.policy import Promise
from broker.domain.s3.sigv4 import Credentials

VIDEO = b"the doctor's trial upload; it is not a video, just 64 bytes".ljust(64, b".")
OTHER_VIDEO = VIDEO[::-1]
TRIAL_SECONDS = 300
LONG_AGO = timedelta(hours=2)
INVALID_FORMS = ("oversize", "type", "altered", "expired")

_ENFORCERS = "use AWS S3, Ceph RGW, or `broker dev --s3-only`; never a server that does not enforce policies"


@dataclass(frozen=True, slots=True)
class Form:
    """Signed fields, and the file that is posted with them."""

    fields: dict[str, str]
    file: bytes = VIDEO


def promise(patient: Patient, purpose: str) -> Promise:
    """Return the promise of exactly the trial's file."""
    content_type = patient.deployment.content_type
    return Promise(patient.name, patient.staging_key(purpose), content_type, len(VIDEO), len(VIDEO))


def valid_form(patient: Patient, keys: Credentials, purpose: str) -> Form:
    """Return a form as the broker issues it."""
    return Form(patient.bucket.sign_upload(promise(patient, purpose), keys, now=patient.now, expires_in=TRIAL_SECONDS))


def invalid_form(patient: Patient, keys: Credentials, kind: str) -> Form:
    """Return a form that S3 must refuse: its file, type, policy or time is not the signed one."""
    valid = valid_form(patient, keys, kind)
    match kind:
        case "oversize":
            return replace(valid, file=VIDEO + b"!")
        case "type":
            return replace(valid, fields={**valid.fields, "Content-Type": "text/html"})
        case "altered":
            # One more blank: the same conditions, but not the signed bytes.
            policy = base64.b64decode(valid.fields["policy"]) + b" "
            return replace(valid, fields={**valid.fields, "policy": base64.b64encode(policy).decode()})
        case _:
            long_ago = patient.now - LONG_AGO
            return Form(patient.bucket.sign_upload(promise(patient, kind), keys, now=long_ago, expires_in=60))


async def post(patient: Patient, form: Form) -> httpx.Response:
    """Post a form as a page of the first origin does."""
    origins = patient.deployment.page_origins
    headers = {"Origin": example_of(origins[0])} if origins else {}
    files = {"file": ("clip.mp4", form.file, patient.deployment.content_type)}
    return await patient.http.post(patient.bucket.form_url, data=form.fields, files=files, headers=headers)


async def valid_upload(patient: Patient) -> list[Finding]:
    """Post a valid form, and check the stored object."""
    keys = await patient.keys()
    answer = await post(patient, valid_form(patient, keys, "upload"))
    if not answer.is_success:
        return [
            fail(
                "upload",
                f"a valid form is answered with {answer.status_code} {code(answer)}",
                cause="the signing keys lack s3:PutObject under staging/, or a policy or KMS denies it; a form carries "
                "the rights of the signing keys",
                fix=patient.may("s3:PutObject", prefix="staging"),
                terraform='statement "SignForms" in aws_iam_policy.signer',
            )
        ]
    arrived = await patient.bucket.head(patient.staging_key("upload"))
    promised = (len(VIDEO), patient.deployment.content_type)
    if arrived is None or (arrived.size, arrived.content_type) != promised:
        stored = "nothing" if arrived is None else f"{arrived.size} bytes of {arrived.content_type}"
        return [
            fail(
                "upload",
                f"a form was accepted ({answer.status_code}), but a HEAD finds {stored}",
                cause="forms and the broker use different servers, or the server stores something else",
                fix="export BROKER_S3_PUBLIC_ENDPOINT_URL=…  # the same S3 as BROKER_S3_ENDPOINT_URL",
            )
        ]
    accepted = ok("upload", f"a valid form is accepted ({answer.status_code}), and a HEAD confirms it")
    return [accepted, _response_headers(answer)]


def _response_headers(answer: httpx.Response) -> Finding:
    missing = [name for name in ("ETag", "Location") if name not in answer.headers]
    if not missing:
        return ok("upload answer", "carries ETag and Location")
    return warn(
        "upload answer",
        f"without {' and '.join(missing)}",
        cause="this server omits headers that AWS sends, and upload libraries such as Uppy wait for them",
        fix="use `broker-upload.js`, which does not need them",
    )


async def invalid_uploads(patient: Patient) -> list[Finding]:
    """Post the invalid forms. If any is accepted, the first finding is a loud one."""
    keys = await patient.keys()
    answers = await asyncio.gather(*(post(patient, invalid_form(patient, keys, kind)) for kind in INVALID_FORMS))
    stored = await asyncio.gather(*(patient.bucket.head(patient.staging_key(kind)) for kind in INVALID_FORMS))
    findings, accepted = [], []
    for kind, answer, object_ in zip(INVALID_FORMS, answers, stored, strict=True):
        description = _DESCRIPTIONS[kind]
        if answer.is_success or object_ is not None:
            accepted.append(description)
            findings.append(
                fail(
                    f"refuses {kind}",
                    f"{description} was ACCEPTED ({answer.status_code})",
                    cause="the server does not check this part of a policy",
                    fix=_ENFORCERS,
                )
            )
        else:
            findings.append(ok(f"refuses {kind}", f"{description}: {answer.status_code} {code(answer)}"))
    return [_enforcement(accepted), *findings]


_DESCRIPTIONS = {
    "oversize": "a file longer than promised",
    "type": "another type than promised",
    "altered": "a policy that was altered after it was signed",
    "expired": "an expired policy",
}


def _enforcement(accepted: list[str]) -> Finding:
    if not accepted:
        return ok("policies", "are enforced")
    return fail(
        "policies",
        f"THIS SERVER DOES NOT ENFORCE POLICIES. It accepted {', and '.join(accepted)}",
        cause="any form can be used to store anything; plain moto and LocalStack behave like this",
        fix=_ENFORCERS,
        loud=True,
    )


def code(answer: httpx.Response) -> str:
    """Return the error code in a response of S3 or CloudFront, or an empty text."""
    return answer.text.partition("<Code>")[2].partition("</Code>")[0]
