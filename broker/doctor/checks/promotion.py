"""The checks of an upload's further life: the guarded copy, the playback link, anonymous access, removal."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import httpx

from broker.doctor.checks.configuration import statements
from broker.doctor.checks.trial import OTHER_VIDEO, post, valid_form
from broker.doctor.deployment import Patient, Refused
from broker.doctor.finding import Finding, fail, ok, warn
from broker.domain.media import Arrived
from broker.errors import BrokerError

LONG_AGO = timedelta(hours=2)
FIRST_BYTES = 4
_COPY_RIGHTS = 'statements "ReadObjects" and "Promote" in aws_iam_policy.signer'


async def promotion(patient: Patient) -> list[Finding]:
    """Overwrite the upload, try to promote the earlier object, then promote the current one."""
    staging, final = patient.staging_key("upload"), patient.final_key()
    before = await patient.bucket.head(staging)
    form = replace(valid_form(patient, await patient.keys(), "upload"), file=OTHER_VIDEO)
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
        return [*findings, _copy_failed(patient, "the copy is not the checked object")]
    return [*findings, ok("promotion", "the checked object was copied to its final key"), await _second_copy(patient)]


def _not_overwritten(patient: Patient, answer: httpx.Response) -> Finding:
    return fail(
        "stale copy",
        f"the same form, posted again, is answered with {answer.status_code}",
        cause="a form is valid until it expires, but a lock or a policy on the bucket forbids the second write",
        fix=patient.s3api("get-object-lock-configuration"),
    )


async def _copy(patient: Patient, **conditions: str) -> Refused | None:
    """Copy the upload with a plain client that sends what the broker sends. Return S3's refusal, or None."""
    properties = patient.deployment.bucket.properties
    parameters = {
        "CopySource": {"Bucket": patient.name, "Key": patient.staging_key("upload")},
        "Key": patient.final_key(),
        "MetadataDirective": "REPLACE",
        "ContentType": patient.deployment.content_type,
        "ServerSideEncryption": properties.encryption,
        "SSEKMSKeyId": properties.kms_key_id,
        # Without it S3 copies the tags, for which it requires s3:GetObjectTagging.
        "TaggingDirective": "REPLACE" if properties.tags else None,
        "Tagging": urlencode(properties.tags) or None,
        "StorageClass": properties.storage_class,
        "CacheControl": properties.cache_control,
        **conditions,
    }
    try:
        await patient.ask("copy_object", **{name: value for name, value in parameters.items() if value is not None})
    except Refused as refused:
        return refused
    return None


async def _stale_copy(patient: Patient, before: Arrived) -> Finding:
    refused = await _copy(patient, CopySourceIfMatch=f'"{before.etag}"')
    await patient.bucket.deletion.purge(patient.final_key())
    if refused is None:
        return warn(
            "stale copy",
            "this server copies an overwritten upload, though the copy names the earlier ETag",
            cause="it ignores x-amz-copy-source-if-match; only the broker's comparison after the copy detects it",
            fix="keep `broker worker` running: it judges such uploads again",
        )
    if refused.status == 412:
        return ok("stale copy", "a copy of an overwritten upload is refused (412)")
    return _copy_failed(patient, f"answered {refused.status} {refused.code}")


async def _comparison(patient: Patient, before: Arrived) -> Finding:
    final = patient.final_key()
    promoted = await patient.bucket.promote(patient.staging_key("upload"), final, before)
    # A failed promotion leaves the copy to its caller.
    await patient.bucket.deletion.purge(final)
    if not promoted:
        return ok("comparison", "an upload that was overwritten after its check is not promoted")
    return fail(
        "comparison",
        "an upload that was overwritten after its check was PROMOTED",
        cause="the server reports the same ETag and checksum for different bytes",
        fix="use an S3 whose ETags differ if the bytes differ",
    )


async def _second_copy(patient: Patient) -> Finding:
    refused = await _copy(patient, IfNoneMatch="*")
    if refused is None:
        return warn(
            "second copy",
            "this server lets a copy replace an existing object",
            cause="it ignores If-None-Match on a copy; only the broker's lease then keeps promotions of a media apart",
            fix="keep BROKER_S3_TIMEOUT_SECONDS well under the lease of 120 seconds",
        )
    if refused.status == 412:
        return ok("second copy", "a copy does not replace an existing object (412)")
    return warn(
        "second copy",
        f"a copy to an existing object is answered with {refused.status} {refused.code}, not 412",
        cause="S3 refused it for another reason, so it is not known whether it would replace the object",
        fix=f"{patient.may('s3:PutObject', 's3:GetObject', prefix='media')}  # then run `broker doctor` again",
        terraform=_COPY_RIGHTS,
    )


def _copy_failed(patient: Patient, detail: str) -> Finding:
    return fail(
        "promotion",
        f"the copy to the final key failed: {detail}",
        cause="the keys lack s3:GetObject under staging/ or media/, s3:PutObject under media/, or the KMS key",
        fix=patient.may("s3:PutObject", "s3:GetObject", prefix="media"),
        terraform=_COPY_RIGHTS,
    )


async def playback(patient: Patient) -> list[Finding]:
    """Play a range of the promoted object by a valid link, and try an expired and an altered one."""
    keys, final = await patient.keys(), patient.final_key()
    url = patient.bucket.sign_playback(final, keys, now=patient.now, expires_in=300, overrides={})
    part = await patient.http.get(url, headers={"Range": f"bytes=0-{FIRST_BYTES - 1}"})
    long_ago = patient.now - LONG_AGO
    expired = patient.bucket.sign_playback(final, keys, now=long_ago, expires_in=60, overrides={})
    statuses = {
        "an expired link": (await patient.http.get(expired)).status_code,
        "a link whose expiry was changed": (
            await patient.http.get(url.replace("X-Amz-Expires=300", "X-Amz-Expires=86400"))
        ).status_code,
    }
    return [_played(part, patient), _links(statuses)]


def _played(part: httpx.Response, patient: Patient) -> Finding:
    if part.status_code == 206 and part.content == OTHER_VIDEO[:FIRST_BYTES]:
        return ok("playback", "a link serves a range (206), so a player can seek")
    cause = "the keys lack s3:GetObject under media/, or kms:Decrypt" if part.is_error else "Range is ignored"
    return fail(
        "playback",
        f"a link is answered with {part.status_code}",
        cause=f"{cause}; a link carries the rights of the signing keys",
        fix=patient.s3api("get-object", "--key", patient.final_key(), "--range", "bytes=0-3", "/dev/null"),
        terraform='statements "ReadObjects" and "UseKey" in aws_iam_policy.signer',
    )


def _links(statuses: dict[str, int]) -> Finding:
    answered = [link for link, status in statuses.items() if status < 400]
    if not answered:
        return ok("links", "expired and altered links are refused")
    return fail(
        "links",
        f"the server serves {' and '.join(answered)}",
        cause="it does not check the signature, so every link is valid forever",
        fix="use AWS S3, Ceph RGW, or `broker dev --s3-only`",
    )


async def strangers(patient: Patient) -> Finding:
    """Request the object and the listing without a signature."""
    url = patient.bucket.form_url
    targets = {"an object": url + patient.final_key(), "the listing": url}
    public = [name for name, address in targets.items() if (await patient.http.get(address)).status_code < 400]
    if not public:
        return ok("strangers", "requests without a signature are refused")
    return fail(
        "strangers",
        f"{' and '.join(public)} can be read without a signature",
        cause="a bucket policy or an ACL makes it public",
        fix=await _closing(patient),
        terraform="aws_s3_bucket_public_access_block.media",
    )


async def _closing(patient: Patient) -> str:
    """Return the command that removes what the bucket's policy allows everybody, and keeps its other statements."""
    by_hand = patient.s3api("get-bucket-policy") + "  # find what it allows everybody; and block public access"
    try:
        policy = json.loads((await patient.ask("get_bucket_policy"))["Policy"])
    except (Refused, KeyError, ValueError):
        return by_hand
    kept = [statement for statement in statements(policy) if not _is_public(statement)]
    if len(kept) == len(statements(policy)):
        return by_hand
    if not kept:
        return patient.s3api("delete-bucket-policy")
    return patient.s3api("put-bucket-policy", document=("--policy", {**policy, "Statement": kept}))


def _is_public(statement: dict[str, Any]) -> bool:
    everybody = ("*", {"AWS": "*"}, {"AWS": ["*"]})
    return (
        statement.get("Effect") == "Allow"
        and statement.get("Principal") in everybody
        and not statement.get("Condition")
    )


async def removal(patient: Patient, keys: list[str]) -> Finding:
    """Remove the doctor's objects, and check that they are gone."""
    try:
        await patient.bucket.deletion.purge(*keys)
        left = [key for key in keys if await patient.bucket.head(key) is not None]
        reason = "they still exist"
    except BrokerError as error:
        left, reason = keys, str(error)
    if not left:
        return ok("delete", "the doctor's objects are gone, old versions included")
    return fail(
        "delete",
        f"not removed: {', '.join(left)}: {reason}",
        cause="the keys lack s3:DeleteObject, or on a versioned bucket s3:DeleteObjectVersion or s3:ListBucketVersions",
        fix="\n".join(patient.aws("s3", "rm", f"s3://{patient.name}/{key}") for key in left),
        terraform='statements "Purge" and "FindVersions" in aws_iam_policy.signer',
    )
