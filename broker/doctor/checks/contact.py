"""The first contact: whether S3 answers here, in this region, at this time, to these keys.

One signed request is sent by hand, since botocore would follow a redirect to the right region silently, and a form or a
link of the broker cannot.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from broker.doctor.deployment import Patient
from broker.doctor.finding import Finding, fail, ok, skip, warn
from broker.domain.sigv4 import Credentials
from broker.errors import BrokerError, CredentialsExpired

SKEW_NOTICED = timedelta(seconds=30)
SKEW_MAX = timedelta(minutes=5)
"""S3 refuses at 15 minutes; before that, policies end sooner or later than they say."""
WRONG_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})
_CHAIN = "aws sts get-caller-identity"


@dataclass(frozen=True, slots=True)
class Contact:
    """Hold what S3 answered to the first signed request; status 0: it did not answer."""

    status: int
    code: str
    date: datetime | None
    region: str | None
    received_at: datetime


async def credentials(patient: Patient) -> Finding:
    """Look at the keys that sign, and when they end."""
    fixed = patient.deployment.bucket.credentials is not None
    try:
        keys = await patient.keys()
    except CredentialsExpired:
        if fixed:
            return fail(
                "credentials",
                "the keys in AWS_ACCESS_KEY_ID have ended, by AWS_CREDENTIAL_EXPIRATION",
                cause="temporary keys were copied into the environment; nothing renews them there",
                mend="unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_CREDENTIAL_EXPIRATION"
                "  # and give the process a role, which renews itself",
            )
        return fail(
            "credentials",
            "the AWS credential chain has none that are valid",
            cause="no keys are set, and neither profile, container nor instance offers any",
            mend=_CHAIN,
            terraform="the task role of the example, with output signer_policy_arn",
        )
    return _lifetime(keys, patient.now, fixed=fixed)


def _lifetime(keys: Credentials, now: datetime, *, fixed: bool) -> Finding:
    source = "the environment" if fixed else "the AWS credential chain"
    if keys.expires_at is not None:
        minutes = int((keys.expires_at - now).total_seconds() // 60)
        seen = f"{keys.access_key} from {source}, ending at {keys.expires_at:%Y-%m-%d %H:%M} UTC, in {minutes} minutes"
        if not fixed:
            return ok("credentials", f"{seen}; renewed before that")
        return warn(
            "credentials",
            seen,
            cause="what was put into the environment is not renewed; the broker stops signing then",
            mend="unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_CREDENTIAL_EXPIRATION"
            "  # and give the process a role",
        )
    if fixed and keys.session_token is not None:
        return warn(
            "credentials",
            f"{keys.access_key} from {source} are temporary, and nothing says when they end",
            cause="links and forms that outlive the session are said to be good for longer than they are",
            mend="export AWS_CREDENTIAL_EXPIRATION=2026-01-31T12:00:00Z  # the `Expiration` that STS answered",
        )
    return ok("credentials", f"{keys.access_key} from {source}; they do not end by themselves")


async def first_contact(patient: Patient) -> Contact | None:
    """Ask for an empty listing of the bucket, signed; None where no keys can sign."""
    try:
        keys = await patient.keys()
    except CredentialsExpired:
        return None
    # A long life: a skewed clock shall be told by the answer's Date, not by this link.
    url = patient.bucket.sign_playback("", keys, now=patient.now, expires_in=3600, overrides={"max-keys": "0"})
    clock = datetime.now(patient.now.tzinfo)
    try:
        answer = await patient.http.get(url)
    except httpx.HTTPError as error:
        return Contact(0, type(error).__name__, None, None, clock)
    region = answer.headers.get("x-amz-bucket-region") or _element(answer.text, "Region")
    return Contact(answer.status_code, _element(answer.text, "Code") or "", _date(answer), region, clock)


def clock(contact: Contact) -> Finding:
    """Compare this machine's clock with the Date of S3's answer."""
    if contact.date is None:
        return skip("clock", "S3 told no date")
    skew = contact.received_at - contact.date
    seconds = int(skew.total_seconds())
    seen = f"{abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} S3's" if seconds else "as S3's"
    if abs(skew) <= SKEW_NOTICED:
        return ok("clock", seen)
    mend = "timedatectl set-ntp true  # or: chronyc makestep"
    if abs(skew) <= SKEW_MAX:
        return warn("clock", seen, cause="policies and links end that much sooner or later than they say", mend=mend)
    return fail(
        "clock", seen, cause="S3 refuses signatures that are 15 minutes off, and policies that have ended", mend=mend
    )


def endpoint(contact: Contact, patient: Patient) -> Finding:
    """Tell whether the address and the region are the bucket's."""
    config = patient.deployment.bucket
    address = patient.bucket.form_url
    if contact.status == 0:
        return fail(
            "endpoint",
            f"{address} does not answer: {contact.code}",
            cause="no such host, no route to it, or a TLS failure",
            mend=f"curl -sv -o /dev/null {address}  # then AWS_S3_REGION or BROKER_S3_ENDPOINT_URL",
        )
    if contact.region not in {None, "", config.region}:
        return fail(
            "endpoint",
            f"the bucket is in {contact.region}, AWS_S3_REGION says {config.region} (answer {contact.status})",
            cause="a signature names its region (301 PermanentRedirect, 400 AuthorizationHeaderMalformed), and a form "
            "cannot follow a redirect",
            mend=f"export AWS_S3_REGION={contact.region}",
            terraform="output environment.AWS_S3_REGION",
        )
    if contact.status == 307:
        return fail(
            "endpoint",
            f"{address} answers 307 {contact.code}",
            cause="the bucket is new, and its name does not yet lead to its region; a form cannot follow a redirect",
            mend=patient.s3api("head-bucket") + "  # wait until this answers without a redirect, up to an hour",
        )
    if contact.status in {301, 302, 308}:
        return fail(
            "endpoint",
            f"{address} answers {contact.status} {contact.code}",
            cause="the bucket lives at another endpoint, which the answer does not name",
            mend=patient.s3api("get-bucket-location") + "  # then AWS_S3_REGION, or BROKER_S3_ENDPOINT_URL",
        )
    if contact.status >= 500:
        return fail(
            "endpoint",
            f"{address} answers {contact.status} {contact.code}",
            cause="S3 is away, or this is no S3",
            mend=f"curl -sv -o /dev/null {address}",
        )
    return ok("endpoint", f"{address} in {config.region}")


async def access(contact: Contact, patient: Patient) -> Finding:
    """Tell whether the keys may use the bucket."""
    if contact.code == "NoSuchBucket":
        region = patient.deployment.bucket.region
        place = () if region == "us-east-1" else ("--create-bucket-configuration", f"LocationConstraint={region}")
        return fail(
            "bucket access",
            f"there is no bucket {patient.name}",
            cause="AWS_S3_BUCKET_NAME names none, or Terraform was not applied",
            mend=patient.s3api("create-bucket", *place),
            terraform="aws_s3_bucket.media",
        )
    if contact.code in WRONG_KEYS:
        return fail(
            "bucket access",
            f"S3 answers {contact.status} {contact.code}",
            cause={
                "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID is unknown or was deactivated",
                "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
                "ExpiredToken": "the temporary keys have ended",
                "InvalidToken": "AWS_SESSION_TOKEN does not belong to these keys",
            }[contact.code],
            mend=f"{_CHAIN}  # then set both keys anew, or unset them and use a role",
        )
    if contact.code == "AccessDenied":
        return fail(
            "bucket access",
            f"S3 answers {contact.status} AccessDenied to a listing",
            cause="the keys lack s3:ListBucket on the bucket, or a policy denies it",
            mend=list_bucket_statement(patient),
            terraform='statement "TellAbsence" in aws_iam_policy.signer',
        )
    if contact.status != 200:
        return fail(
            "bucket access",
            f"S3 answers {contact.status} {contact.code}",
            cause="S3 refuses the broker's own request",
            mend=patient.s3api("head-bucket"),
        )
    try:
        await patient.bucket.check()
    except BrokerError as error:
        return fail(
            "bucket access",
            f"clients reach the bucket, the broker does not: {error}",
            cause="BROKER_S3_ENDPOINT_URL and BROKER_S3_PUBLIC_ENDPOINT_URL differ",
            mend=patient.s3api("head-bucket"),
        )
    return ok("bucket access", f"{patient.name} answers, and believes the signature")


def list_bucket_statement(patient: Patient) -> str:
    """Return the command that grants s3:ListBucket to the role that it is told."""
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


def _date(answer: httpx.Response) -> datetime | None:
    try:
        return parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return None


def _element(body: str, name: str) -> str | None:
    # S3's errors are flat, and a parser of XML would have to be a hardened one.
    found = re.search(rf"<{name}>([^<]*)</{name}>", body)
    return found.group(1) if found else None
