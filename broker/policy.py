"""The presigned POST policy: one table makes both the form's fields and the conditions that hold them.

Source: Amazon S3 API Reference, "Creating a POST policy".
"""

import json
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker import sigv4
from broker.sigv4 import Credentials

MAX_POLICY_SECONDS = 3600
MAX_PLAYBACK_SECONDS = 86_400

Condition = dict[str, str] | list[str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Say what exactly one policy lets in: one object, under one key, of one type, within these sizes (bytes)."""

    bucket: str
    key: str
    content_type: str
    min_size: int
    max_size: int
    sha256: str | None = None
    redirect_to: str | None = None

    def exact_fields(self) -> dict[str, str]:
        """Return the table: each field that the form must send, with the only value that it may have."""
        fields = {"Content-Type": self.content_type}
        if self.redirect_to is None:
            fields["success_action_status"] = "201"
        else:
            fields["success_action_redirect"] = self.redirect_to
        if self.sha256 is not None:
            fields["x-amz-checksum-sha256"] = self.sha256
        return fields


def presign_post(
    promise: Promise, credentials: Credentials, *, now: datetime, region: str, expires_in: int
) -> dict[str, str]:
    """Return the form's fields, signed, in the order in which a form should send them; `file` comes after them.

    The policy ends `expires_in` seconds after `now`. The bytes equal those of botocore's `generate_presigned_post`
    for the same fields and conditions.
    """
    exact = promise.exact_fields()
    conditions: list[Condition] = [{name: value} for name, value in exact.items()]
    conditions.append(["content-length-range", promise.min_size, promise.max_size])
    conditions += [{"bucket": promise.bucket}, {"key": promise.key}]
    return sign_post(
        {**exact, "key": promise.key},
        conditions,
        credentials,
        now=now,
        region=region,
        expires_in=expires_in,
    )


def sign_post(
    fields: dict[str, str],
    conditions: list[Condition],
    credentials: Credentials,
    *,
    now: datetime,
    region: str,
    expires_in: int,
) -> dict[str, str]:
    """Return `fields` with the credential's own fields, the policy and its signature added; arguments stay as they are."""
    signer = {
        "x-amz-algorithm": sigv4.ALGORITHM,
        "x-amz-credential": f"{credentials.access_key}/{sigv4.scope(now, region)}",
        "x-amz-date": sigv4.amz_date(now),
    }
    if credentials.session_token is not None:
        signer["x-amz-security-token"] = credentials.session_token
    document = {
        "expiration": f"{now + timedelta(seconds=expires_in):%Y-%m-%dT%H:%M:%SZ}",
        "conditions": conditions + [{name: value} for name, value in signer.items()],
    }
    policy = b64encode(json.dumps(document).encode()).decode()
    signature = sigv4.sign(credentials.secret_key, now, region, policy)
    return {**fields, **signer, "policy": policy, "x-amz-signature": signature}
