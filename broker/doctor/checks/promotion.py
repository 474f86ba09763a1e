"""What becomes of an upload: a guarded copy, a link that plays it, and nothing for strangers."""

from dataclasses import replace
from datetime import timedelta

import httpx

from broker.doctor.checks.trial import OTHER_VIDEO, good_form, post
from broker.doctor.deployment import Patient, Refused, ask
from broker.doctor.finding import Finding, fail, ok, warn
from broker.domain.media import Arrived
from broker.errors import BrokerError

LONG_AGO = timedelta(hours=2)
FIRST_BYTES = 4
_COPY_RIGHTS = 'statements "ReadObjects" and "Promote" in aws_iam_policy.signer'


async def promotion(patient: Patient) -> list[Finding]:
    """Overwrite the upload, try to promote what was there before, then promote what is there now."""
    staging, final = patient.staging_key("upload"), patient.final_key()
    before = await patient.bucket.head(staging)
    form = replace(good_form(patient, await patient.keys(), "upload"), file=OTHER_VIDEO)
    answer = await post(patient, form)
    now = await patient.bucket.head(staging)
    if before is None or now is None or not answer.is_success:
        return [_not_overwritten(patient, answer)]
    try:
        findings = [await _stale_copy(patient, before), await _comparison(patient, before)]
        promoted = await patient.bucket.promote(staging, final, now)
    except BrokerError as error:
        return [_copy_failed(patient, str(error))]
    if not promoted:
        return [*findings, _copy_failed(patient, "the copy is not what was checked")]
    return [*findings, ok("promotion", "the checked object was copied to its final key"), await _second_copy(patient)]


def _not_overwritten(patient: Patient, answer: httpx.Response) -> Finding:
    return fail(
        "stale copy",
        f"the same form, posted again, is answered {answer.status_code}",
        cause="on S3 a form is good until it expires; a lock or a policy on the bucket forbids the second write",
        mend=patient.s3api("get-object-lock-configuration"),
    )


async def _copy(patient: Patient, **conditions: str) -> int:
    """Copy the upload with botocore itself; return 200, or the status with which S3 refused."""
    source = {"Bucket": patient.name, "Key": patient.staging_key("upload")}
    parameters = {"Bucket": patient.name, "Key": patient.final_key(), "CopySource": source, **conditions}
    try:
        await ask(patient.s3.copy_object, **parameters)
    except Refused as refused:
        return refused.status
    return 200


async def _stale_copy(patient: Patient, before: Arrived) -> Finding:
    status = await _copy(patient, CopySourceIfMatch=f'"{before.etag}"')
    await patient.bucket.purge(patient.final_key())
    if status == 412:
        return ok("stale copy", "a copy of an overwritten upload is refused (412)")
    if status == 200:
        return warn(
            "stale copy",
            "this server copies whatever is there, though another ETag was asked for",
            cause="it ignores x-amz-copy-source-if-match; the broker's comparison after the copy must catch it",
            mend="keep `broker worker` running: it judges again what the comparison caught",
        )
    return _copy_failed(patient, f"answered {status}")


async def _comparison(patient: Patient, before: Arrived) -> Finding:
    final = patient.final_key()
    promoted = await patient.bucket.promote(patient.staging_key("upload"), final, before)
    # Whoever promotes in vain removes what was copied.
    await patient.bucket.purge(final)
    if not promoted:
        return ok("comparison", "what was overwritten after the check is not promoted")
    return fail(
        "comparison",
        "an upload that was overwritten after its check was PROMOTED",
        cause="the server shows the same ETag and checksum for other bytes",
        mend="use an S3 whose ETags differ where bytes differ",
    )


async def _second_copy(patient: Patient) -> Finding:
    if await _copy(patient, IfNoneMatch="*") == 412:
        return ok("second copy", "a copy does not replace what is there (412)")
    return warn(
        "second copy",
        "this server lets a copy replace what is there",
        cause="it ignores If-None-Match on a copy; two promotions of one media at once are then held apart by the "
        "broker's lease alone",
        mend="let BROKER_S3_TIMEOUT_SECONDS stay well under the lease of 120 seconds",
    )


def _copy_failed(patient: Patient, seen: str) -> Finding:
    return fail(
        "promotion",
        f"the copy to the final key failed: {seen}",
        cause="the keys lack s3:GetObject under staging/ or media/, s3:PutObject under media/, or the KMS key",
        mend=patient.aws(
            "iam",
            "simulate-principal-policy",
            "--policy-source-arn",
            "ROLE_ARN",
            "--action-names",
            "s3:PutObject",
            "s3:GetObject",
            "--resource-arns",
            f"{patient.arn}/media/x",
        ),
        terraform=_COPY_RIGHTS,
    )


async def playback(patient: Patient) -> list[Finding]:
    """Play the promoted object by a link: a part of it, and not by a link that was altered or has ended."""
    keys, final = await patient.keys(), patient.final_key()
    url = patient.bucket.sign_playback(final, keys, now=patient.now, expires_in=300, overrides={})
    part = await patient.http.get(url, headers={"Range": f"bytes=0-{FIRST_BYTES - 1}"})
    long_ago = patient.now - LONG_AGO
    ended = patient.bucket.sign_playback(final, keys, now=long_ago, expires_in=60, overrides={})
    statuses = {
        "one that had ended": (await patient.http.get(ended)).status_code,
        "one that was made to live longer": (
            await patient.http.get(url.replace("X-Amz-Expires=300", "X-Amz-Expires=86400"))
        ).status_code,
    }
    return [_played(part, patient), _links(statuses)]


def _played(part: httpx.Response, patient: Patient) -> Finding:
    if part.status_code == 206 and part.content == OTHER_VIDEO[:FIRST_BYTES]:
        return ok("playback", "a link answers a part (206), so that a player can seek")
    cause = "the keys lack s3:GetObject under media/, or kms:Decrypt" if part.is_error else "Range is ignored"
    return fail(
        "playback",
        f"a link is answered {part.status_code}",
        cause=f"{cause}; a link carries the rights of whoever signed it",
        mend=patient.s3api("get-object", "--key", patient.final_key(), "--range", "bytes=0-3", "/dev/null"),
        terraform='statement "ReadObjects" in aws_iam_policy.signer',
    )


def _links(statuses: dict[str, int]) -> Finding:
    answered = [link for link, status in statuses.items() if status < 400]
    if not answered:
        return ok("links", "one that has ended or was altered is refused")
    return fail(
        "links",
        f"the server answers {' and '.join(answered)}",
        cause="it does not look at the signature, so that every link is good for ever",
        mend="use AWS S3, Ceph RGW, or `broker dev --s3-only`",
    )


async def strangers(patient: Patient) -> Finding:
    """Ask without any signature for the object and for the listing."""
    url = patient.bucket.form_url
    asked = {"an object": url + patient.final_key(), "the listing": url}
    shown = [what for what, address in asked.items() if (await patient.http.get(address)).status_code < 400]
    if not shown:
        return ok("strangers", "without a signature nothing is shown")
    return fail(
        "strangers",
        f"anybody can read {' and '.join(shown)}",
        cause="a bucket policy or an ACL allows everybody",
        mend=patient.s3api("delete-bucket-policy") + "  # and block public access",
        terraform="aws_s3_bucket_public_access_block.media",
    )


async def removal(patient: Patient, keys: list[str]) -> Finding:
    """Remove what the doctor wrote, and look whether it is gone."""
    try:
        await patient.bucket.purge(*keys)
        left = [key for key in keys if await patient.bucket.head(key) is not None]
        reason = "they are still there"
    except BrokerError as error:
        left, reason = keys, str(error)
    if not left:
        return ok("delete", "the doctor's objects are gone, old versions included")
    return fail(
        "delete",
        f"not removed: {', '.join(left)}: {reason}",
        cause="the keys lack s3:DeleteObject, or on a versioned bucket s3:DeleteObjectVersion or s3:ListBucketVersions",
        mend="\n".join(patient.aws("s3", "rm", f"s3://{patient.name}/{key}") for key in left),
        terraform='statement "Purge" in aws_iam_policy.signer',
    )
