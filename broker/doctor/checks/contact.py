"""The checks of the first contact: credentials, clock, endpoint and region, access to the bucket.

One signed request is sent without botocore, which would silently follow a redirect to the right region; the broker's
forms and links cannot.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from broker.doctor.deployment import Patient
from broker.doctor.finding import Finding, fail, ok, skip, warn
from broker.domain.s3.sigv4 import Credentials
from broker.errors import BrokerError, CredentialsExpired

SKEW_NOTICED = timedelta(seconds=30)
SKEW_MAX = timedelta(minutes=5)
"""S3 refuses a skew of 15 minutes; below that, policies only expire earlier or later than they say."""
WRONG_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})
_CHAIN = "aws sts get-caller-identity"


@dataclass(frozen=True, slots=True)
class Contact:
    """S3's answer to the first signed request; the status is 0 if there was none."""

    status: int
    code: str
    date: datetime | None
    region: str | None
    received_at: datetime


async def credentials(patient: Patient) -> Finding:
    """Check the signing keys, and when they expire."""
    fixed = patient.deployment.bucket.credentials is not None
    try:
        keys = await patient.keys()
    except CredentialsExpired:
        if fixed:
            return fail(
                "credentials",
                "the keys in AWS_ACCESS_KEY_ID have expired, by AWS_CREDENTIAL_EXPIRATION",
                cause="temporary keys were copied into the environment, where they are not renewed",
                fix="unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_CREDENTIAL_EXPIRATION"
                "  # and give the process a role, whose keys are renewed",
            )
        return fail(
            "credentials",
            "the AWS credential chain has no valid keys",
            cause="no keys are set, and no profile, container or instance provides any",
            fix=_CHAIN,
            terraform="the task role of the example, with output signer_policy_arn",
        )
    return _lifetime(keys, patient.now, fixed=fixed)


def _lifetime(keys: Credentials, now: datetime, *, fixed: bool) -> Finding:
    source = "the environment" if fixed else "the AWS credential chain"
    if keys.expires_at is not None:
        minutes = int((keys.expires_at - now).total_seconds() // 60)
        expiry = f"{keys.expires_at:%Y-%m-%d %H:%M} UTC, in {minutes} minutes"
        detail = f"{keys.access_key} from {source}, expiring at {expiry}"
        if not fixed:
            return ok("credentials", f"{detail}; renewed before that")
        return warn(
            "credentials",
            detail,
            cause="keys in the environment are not renewed, so the broker will stop signing then",
            fix="unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_CREDENTIAL_EXPIRATION"
            "  # and give the process a role",
        )
    if fixed and keys.session_token is not None:
        return warn(
            "credentials",
            f"{keys.access_key} from {source} are temporary, and their expiration is not set",
            cause="forms and links would claim a longer life than the keys have",
            fix="export AWS_CREDENTIAL_EXPIRATION=2026-01-31T12:00:00Z  # the `Expiration` that STS answered",
        )
    return ok("credentials", f"{keys.access_key} from {source}; they do not expire")


async def first_contact(patient: Patient) -> Contact | None:
    """Send a signed request for an empty listing. Return None if there are no keys."""
    try:
        keys = await patient.keys()
    except CredentialsExpired:
        return None
    # A long life, so that a skewed clock shows in the Date of the response and does not expire this link.
    url = patient.bucket.sign_playback("", keys, now=patient.now, expires_in=3600, overrides={"max-keys": "0"})
    clock = datetime.now(patient.now.tzinfo)
    try:
        response = await patient.http.get(url)
    except httpx.HTTPError as error:
        return Contact(0, type(error).__name__, None, None, clock)
    region = response.headers.get("x-amz-bucket-region") or _element(response.text, "Region")
    return Contact(response.status_code, _element(response.text, "Code") or "", _date(response), region, clock)


def clock(contact: Contact) -> Finding:
    """Compare this machine's clock with the Date of S3's response."""
    if contact.date is None:
        return skip("clock", "S3 sent no date")
    skew = contact.received_at - contact.date
    seconds = int(skew.total_seconds())
    detail = f"{abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} S3's" if seconds else "as S3's"
    if abs(skew) <= SKEW_NOTICED:
        return ok("clock", detail)
    fix = "timedatectl set-ntp true  # or: chronyc makestep"
    if abs(skew) <= SKEW_MAX:
        return warn(
            "clock", detail, cause="policies and links expire that much earlier or later than they say", fix=fix
        )
    return fail("clock", detail, cause="S3 refuses signatures that are 15 minutes off, and expired policies", fix=fix)


def endpoint(contact: Contact, patient: Patient) -> Finding:
    """Check that the address and the region are the bucket's."""
    config = patient.deployment.bucket
    address = patient.bucket.form_url
    if contact.status == 0:
        return fail(
            "endpoint",
            f"{address} does not answer: {contact.code}",
            cause="no such host, no route to it, or a TLS failure",
            fix=f"curl -sv -o /dev/null {address}  # then AWS_S3_REGION or BROKER_S3_ENDPOINT_URL",
        )
    if contact.region not in {None, "", config.region}:
        return fail(
            "endpoint",
            f"the bucket is in {contact.region}, but AWS_S3_REGION is {config.region} (status {contact.status})",
            cause="a signature names its region (301 PermanentRedirect, 400 AuthorizationHeaderMalformed), and a form "
            "cannot follow a redirect",
            fix=f"export AWS_S3_REGION={contact.region}",
            terraform="output environment.AWS_S3_REGION",
        )
    if contact.status == 307:
        return fail(
            "endpoint",
            f"{address} answers 307 {contact.code}",
            cause="the bucket is new; its name does not lead to its region yet, and a form cannot follow redirects",
            fix=patient.s3api("head-bucket") + "  # wait until this answers without a redirect, up to an hour",
        )
    if contact.status in {301, 302, 308}:
        return fail(
            "endpoint",
            f"{address} answers {contact.status} {contact.code}",
            cause="the bucket has another endpoint, which the response does not name",
            fix=patient.s3api("get-bucket-location") + "  # then AWS_S3_REGION, or BROKER_S3_ENDPOINT_URL",
        )
    if contact.status >= 500:
        return fail(
            "endpoint",
            f"{address} answers {contact.status} {contact.code}",
            cause="S3 is unavailable, or the server is not an S3",
            fix=f"curl -sv -o /dev/null {address}",
        )
    return ok("endpoint", f"{address} in {config.region}")


async def access(contact: Contact, patient: Patient) -> Finding:
    """Check that the keys have access to the bucket."""
    if contact.code == "NoSuchBucket":
        region = patient.deployment.bucket.region
        place = () if region == "us-east-1" else ("--create-bucket-configuration", f"LocationConstraint={region}")
        return fail(
            "bucket access",
            f"there is no bucket {patient.name}",
            cause="AWS_S3_BUCKET_NAME is wrong, or Terraform was not applied",
            fix=patient.s3api("create-bucket", *place),
            terraform="aws_s3_bucket.media",
        )
    if contact.code in WRONG_KEYS:
        return fail(
            "bucket access",
            f"S3 answers {contact.status} {contact.code}",
            cause={
                "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID is unknown or was deactivated",
                "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
                "ExpiredToken": "the temporary keys have expired",
                "InvalidToken": "AWS_SESSION_TOKEN does not belong to these keys",
            }[contact.code],
            fix=f"{_CHAIN}  # then set both keys again, or unset them and use a role",
        )
    if contact.code == "AccessDenied":
        return fail(
            "bucket access",
            f"S3 answers {contact.status} AccessDenied to a listing",
            cause="the keys lack s3:ListBucket on the bucket, or a policy denies it",
            fix=list_bucket_statement(patient),
            terraform='statement "TellAbsence" in aws_iam_policy.signer',
        )
    if contact.status != 200:
        return fail(
            "bucket access",
            f"S3 answers {contact.status} {contact.code}",
            cause="S3 refuses the broker's own request",
            fix=patient.s3api("head-bucket"),
        )
    try:
        await patient.bucket.check()
    except BrokerError as error:
        return fail(
            "bucket access",
            f"clients reach the bucket, the broker does not: {error}",
            cause="BROKER_S3_ENDPOINT_URL and BROKER_S3_PUBLIC_ENDPOINT_URL differ",
            fix=patient.s3api("head-bucket"),
        )
    return ok("bucket access", f"{patient.name} answers, and accepts the signature")


def list_bucket_statement(patient: Patient) -> str:
    """Return the command that grants s3:ListBucket to a role."""
    statement = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": patient.arn}
    return patient.aws(
        "iam",
        "put-role-policy",
        "--role-name",
        "ROLE",
        "--policy-name",
        "broker-tells-absence",
        document=("--policy-document", {"Version": "2012-10-17", "Statement": [statement]}),
    )


def _date(response: httpx.Response) -> datetime | None:
    try:
        return parsedate_to_datetime(response.headers["date"])
    except (KeyError, ValueError):
        return None


def _element(body: str, name: str) -> str | None:
    # S3's error documents are flat, and an XML parser would have to be a hardened one.
    match = re.search(rf"<{name}>([^<]*)</{name}>", body)
    return match[1] if match else None
