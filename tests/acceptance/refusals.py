"""A table of invalid uploads and AWS's answers to them. Each row changes a valid form in one way.

Source: Amazon S3 API Reference, "POST Object", "Creating a POST policy" and "Error responses".
"""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256

import httpx

from tests.acceptance.forms import VIDEO, Condition, Upload, multipart, replaced, without

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Refusal:
    """One row: a function that sends the invalid upload, and the status and error codes that may answer it."""

    send: Callable[[Upload], httpx.Response]
    status: int
    codes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.send.__name__.replace("_", " ")


REFUSALS: list[Refusal] = []


def refused(
    status: int, *codes: str
) -> Callable[[Callable[[Upload], httpx.Response]], Callable[[Upload], httpx.Response]]:
    """Add a row to the table."""

    def add(send: Callable[[Upload], httpx.Response]) -> Callable[[Upload], httpx.Response]:
        REFUSALS.append(Refusal(send, status, codes))
        return send

    return add


# The policy does not allow it.


@refused(403, "AccessDenied")
def the_policy_has_expired(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(now=upload.now - HOUR, expires_in=3590))


@refused(403, "AccessDenied")
def another_type(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(fields={"Content-Type": "text/html"}))


@refused(403, "AccessDenied")
def a_type_in_other_letters(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(fields={"Content-Type": "Video/MP4"}))


@refused(403, "AccessDenied")
def another_key(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(fields={"key": f"{upload.prefix}other.mp4"}))


@refused(403, "AccessDenied")
def a_key_beyond_the_prefix(upload: Upload) -> httpx.Response:
    conditions: list[Condition] = [*upload.conditions()[:-1], ["starts-with", "$key", f"{upload.prefix}mine/"]]
    return upload.send(upload.form(conditions=conditions))


@refused(403, "AccessDenied")
def a_policy_for_another_bucket(upload: Upload) -> httpx.Response:
    conditions = [
        {"bucket": "another-bucket"} if condition == {"bucket": upload.s3.bucket} else condition
        for condition in upload.conditions()
    ]
    return upload.send(upload.form(conditions=conditions))


@refused(403, "AccessDenied")
def a_field_without_a_condition(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(fields={"x-amz-meta-note": "hello"}))


@refused(403, "AccessDenied")
def an_acl_without_a_condition(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(fields={"acl": "public-read"}))


@refused(403, "AccessDenied")
def a_submit_button_as_a_field(upload: Upload) -> httpx.Response:
    return upload.send([("submit", "Upload"), *upload.form()])


@refused(403, "AccessDenied")
def a_condition_without_its_field(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(conditions=upload.conditions({"x-amz-meta-note": "hello"})))


@refused(403, "AccessDenied")
def no_type_although_the_policy_has_one(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(fields={"Content-Type": None}))


@refused(400, "EntityTooLarge")
def one_byte_too_many(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(conditions=upload.conditions(max_size=len(VIDEO) - 1)))


@refused(400, "EntityTooSmall")
def one_byte_too_few(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(conditions=upload.conditions(min_size=len(VIDEO) + 1)))


@refused(400, "EntityTooSmall")
def an_empty_file(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(content=b""))


# The signature is invalid.


@refused(403, "SignatureDoesNotMatch")
def an_altered_policy(upload: Upload) -> httpx.Response:
    document = upload.document() | {"expiration": f"{upload.now + HOUR:%Y-%m-%dT%H:%M:%SZ}"}
    return upload.send(replaced(upload.form(), "policy", b64encode(json.dumps(document).encode()).decode()))


@refused(403, "SignatureDoesNotMatch")
def a_signature_with_another_secret(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(credentials=replace(upload.s3.credentials, secret_key="guessed")))


@refused(403, "SignatureDoesNotMatch")
def a_signature_of_zeros(upload: Upload) -> httpx.Response:
    return upload.send(replaced(upload.form(), "x-amz-signature", "0" * 64))


@refused(403, "InvalidAccessKeyId")
def an_unknown_access_key(upload: Upload) -> httpx.Response:
    return upload.send(upload.form(credentials=replace(upload.s3.credentials, access_key="AKIAIOSFODNN7EXAMPLE")))


@refused(403, "AccessDenied")
def neither_policy_nor_signature(upload: Upload) -> httpx.Response:
    return upload.send([("key", upload.key), ("file", VIDEO)])


@refused(400, "InvalidArgument")
def no_signature(upload: Upload) -> httpx.Response:
    return upload.send(without(upload.form(), "x-amz-signature"))


@refused(400, "InvalidArgument")
def no_credential(upload: Upload) -> httpx.Response:
    return upload.send(without(upload.form(), "x-amz-credential"))


@refused(400, "InvalidArgument")
def no_date(upload: Upload) -> httpx.Response:
    return upload.send(without(upload.form(), "x-amz-date"))


# The form or its policy is malformed.


@refused(400, "InvalidArgument")
def no_file(upload: Upload) -> httpx.Response:
    return upload.send(without(upload.form(), "file"))


@refused(400, "InvalidArgument")
def no_key(upload: Upload) -> httpx.Response:
    return upload.send(without(upload.form(), "key"))


@refused(400, "InvalidArgument")
def a_field_twice(upload: Upload) -> httpx.Response:
    return upload.send([("Content-Type", "video/mp4"), *upload.form()])


@refused(400, "InvalidPolicyDocument")
def a_policy_that_is_not_json(upload: Upload) -> httpx.Response:
    return upload.send(upload.form_around(b"not json"))


@refused(400, "InvalidPolicyDocument")
def a_policy_without_an_expiration(upload: Upload) -> httpx.Response:
    document = {"conditions": upload.document()["conditions"]}
    return upload.send(upload.form_around(json.dumps(document).encode()))


@refused(400, "InvalidPolicyDocument")
def a_condition_with_two_fields(upload: Upload) -> httpx.Response:
    two_fields: dict[str, str] = {"Content-Type": "video/mp4", "success_action_status": "201"}
    return upload.send(upload.form(conditions=[two_fields, *upload.conditions()[2:]]))


@refused(400, "MaxPostPreDataLengthExceeded")
def more_than_20_kb_before_the_file(upload: Upload) -> httpx.Response:
    return upload.send([("x-ignore-padding", "x" * 20_480), *upload.form()])


@refused(412, "PreconditionFailed")
def a_form_that_is_not_multipart(upload: Upload) -> httpx.Response:
    fields = {name: value for name, value in upload.form() if isinstance(value, str)}
    return upload.s3.http.post(upload.s3.bucket_url, data=fields)


@refused(400, "BadDigest", "InvalidRequest")
def another_checksum(upload: Upload) -> httpx.Response:
    promised = b64encode(sha256(b"another video").digest()).decode()
    return upload.send(
        upload.form(
            fields={"x-amz-checksum-sha256": promised},
            conditions=upload.conditions({"x-amz-checksum-sha256": promised}),
        )
    )


# AWS documents both codes, and not which of them applies here.
@refused(400, "MalformedPOSTRequest", "IncompleteBody")
def a_body_that_ends_early(upload: Upload) -> httpx.Response:
    content_type, body = multipart(upload.form())
    return upload.s3.http.post(upload.s3.bucket_url, headers={"Content-Type": content_type}, content=body[:-2000])
