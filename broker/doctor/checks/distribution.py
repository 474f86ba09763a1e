"""The checks of CloudFront, if a key pair is set: valid links play, and other requests are refused.

Source: Amazon CloudFront Developer Guide, "Serve private content with signed URLs and signed cookies".
"""

import re
from datetime import timedelta

import httpx

from broker.doctor.checks.trial import OTHER_VIDEO, code
from broker.doctor.deployment import Patient
from broker.doctor.finding import Finding, fail, ok

LONG_AGO = timedelta(hours=2)
FIRST_BYTES = 4
_LOOK = "aws cloudfront list-distributions --query 'DistributionList.Items[].[Id,DomainName,Aliases.Items]'"


async def distribution(patient: Patient) -> list[Finding]:
    """Play the promoted object through the distribution, then request it without a valid link."""
    if patient.deployment.bucket.cloudfront is None:
        return []
    address, key_id, _ = patient.deployment.bucket.cloudfront
    key, now = patient.final_key(), patient.now
    link, _ = await patient.bucket.playback_link(key, 300, now=now, overrides={})
    expired, _ = await patient.bucket.playback_link(key, 60, now=now - LONG_AGO, overrides={})
    try:
        part = await patient.http.get(link, headers={"Range": f"bytes=0-{FIRST_BYTES - 1}"})
        statuses = {
            "an unsigned link": (await patient.http.get(f"{address}/{key}")).status_code,
            "an expired link": (await patient.http.get(expired)).status_code,
            "a link whose expiry was changed": (await patient.http.get(_prolonged(link))).status_code,
        }
    except httpx.HTTPError as error:
        return [_silent(address, error)]
    return [_played(part, patient, address, key_id), _closed(statuses)]


def _prolonged(link: str) -> str:
    return re.sub(r"(?<=[?&]Expires=)\d+", lambda expiry: str(int(expiry[0]) + 86400), link)


def _silent(address: str, error: httpx.HTTPError) -> Finding:
    return fail(
        "CloudFront",
        f"{address} does not answer: {type(error).__name__}",
        cause="BROKER_CLOUDFRONT_URL names no distribution, its DNS is missing, or its certificate is another host's",
        fix=f"{_LOOK}  # the host of BROKER_CLOUDFRONT_URL should be among them",
        terraform="output cloudfront_domain",
    )


def _played(part: httpx.Response, patient: Patient, address: str, key_id: str) -> Finding:
    if part.status_code == 206 and part.content == OTHER_VIDEO[:FIRST_BYTES]:
        return ok("CloudFront", f"a link to {address} serves a range (206)")
    detail = f"a link to {address} is answered {part.status_code} {code(part)}".rstrip()
    if code(part) in {"InvalidKey", "InvalidSignature", "MalformedSignature"}:
        return fail(
            "CloudFront",
            detail,
            cause=f"BROKER_CLOUDFRONT_KEY_ID ({key_id}) is in no key group that the distribution trusts, or "
            "BROKER_CLOUDFRONT_PRIVATE_KEY belongs to another pair",
            fix=f"aws cloudfront get-public-key --id {key_id}"
            "  # its EncodedKey should equal: openssl pkey -pubout -in KEY.pem",
            terraform="output cloudfront_key_ids",
        )
    return fail(
        "CloudFront",
        detail,
        cause="the private key belongs to another pair, or the bucket's policy denies the distribution media/",
        fix=patient.s3api("get-bucket-policy") + "  # aws:SourceArn should be the distribution's",
        terraform='statement "AllowCloudFront" in aws_s3_bucket_policy.media',
    )


def _closed(statuses: dict[str, int]) -> Finding:
    served = [link for link, status in statuses.items() if status < 400]
    if not served:
        return ok("CloudFront's links", "unsigned, expired and altered links are refused")
    return fail(
        "CloudFront's links",
        f"the distribution serves {' and '.join(served)}",
        cause="its behavior trusts no key group, so every object is public",
        fix=f"{_LOOK}  # then restrict viewer access: trusted key groups",
        terraform="aws_cloudfront_distribution.media",
    )
