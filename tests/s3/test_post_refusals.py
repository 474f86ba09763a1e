"""POST Object: the forms that it refuses, with status and code; none of them stores an object."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.dev.s3 import Session
from tests.s3.forms import Form, element, error_code


@dataclass(frozen=True)
class Refusal:
    """A change to a right form, and how S3 refuses it."""

    name: str
    change: Callable[[Form], None]
    status: int
    code: str
    says: str = ""


def setting(**values: Any) -> Callable[[Form], None]:
    """Change attributes of the form."""

    def change(form: Form) -> None:
        for name, value in values.items():
            setattr(form, name, value)

    return change


def fields(values: dict[str, str]) -> Callable[[Form], None]:
    """Add fields that the policy names."""
    return lambda form: form.fields.update(values)


def conditions(*items: Any) -> Callable[[Form], None]:
    """Add conditions to the policy."""
    return lambda form: form.conditions.extend(items)


def replaced(name: str, value: str) -> Callable[[Form], None]:
    """Replace a field after signing."""

    def change(form: Form) -> None:
        form.without.add(name)
        form.extra.append((name, value))

    return change


def document(**changes: Any) -> Callable[[Form], None]:
    """Sign a policy whose `expiration` and `conditions` are as given; None leaves a member out."""

    def change(form: Form) -> None:
        later = datetime.now(UTC) + timedelta(minutes=5)
        policy = {"expiration": f"{later:%Y-%m-%dT%H:%M:%SZ}", "conditions": []} | changes
        form.document = {name: value for name, value in policy.items() if value is not None}

    return change


def document_text(text: str) -> Callable[[Form], None]:
    """Sign a policy that is written as given."""
    return setting(document=text)


def altered_policy(form: Form) -> None:
    """Widen the policy without signing it again."""
    policy = json.loads(base64.b64decode(form.signed_fields()["policy"]))
    policy["conditions"].append(["starts-with", "$x-amz-meta-a", ""])
    replaced("policy", base64.b64encode(json.dumps(policy).encode()).decode())(form)


def stripped(form: Form) -> None:
    """Leave nothing but the key and the file."""
    form.without = {
        "policy",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-signature",
    }


def both(*changes: Callable[[Form], None]) -> Callable[[Form], None]:
    """Make several changes."""

    def change(form: Form) -> None:
        for one in changes:
            one(form)

    return change


ZERO = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8, "SHA1": 20, "SHA256": 32}
SIGNATURE_FIELDS = ("policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
SHA256 = base64.b64encode(hashlib.sha256(b"other").digest()).decode()

REFUSALS = [
    # The policy: expired, a condition fails, a field without condition, a condition without its field.
    Refusal("an expired policy", setting(expires_in=-1), 403, "AccessDenied", "Policy expired."),
    Refusal(
        "another key",
        replaced("key", "staging/b"),
        403,
        "AccessDenied",
        'Policy Condition failed: ["eq", "$key", "staging/a"]',
    ),
    Refusal("a value in another case", replaced("key", "STAGING/A"), 403, "AccessDenied", "$key"),
    Refusal(
        "a key outside its prefix",
        both(conditions(["starts-with", "$key", "user/"])),
        403,
        "AccessDenied",
        'Policy Condition failed: ["starts-with", "$key", "user/"]',
    ),
    Refusal("another bucket", conditions({"bucket": "other"}), 403, "AccessDenied", "$bucket"),
    Refusal(
        "another content type",
        both(fields({"Content-Type": "video/mp4"}), replaced("Content-Type", "text/html")),
        403,
        "AccessDenied",
        "Content-Type",
    ),
    Refusal(
        "a content type of another family",
        both(fields({"Content-Type": "text/html"}), conditions(["starts-with", "$Content-Type", "video/"])),
        403,
        "AccessDenied",
        "Content-Type",
    ),
    Refusal(
        "one of several content types outside",
        both(
            fields({"Content-Type": "video/mp4, text/html"}),
            conditions(["starts-with", "$Content-Type", "video/"]),
        ),
        403,
        "AccessDenied",
        "Content-Type",
    ),
    Refusal(
        "another status than agreed",
        both(fields({"success_action_status": "201"}), replaced("success_action_status", "200")),
        403,
        "AccessDenied",
        "$success_action_status",
    ),
    Refusal(
        "a field without condition",
        setting(extra=[("x-amz-meta-a", "1")]),
        403,
        "AccessDenied",
        "Extra input fields: x-amz-meta-a",
    ),
    Refusal("a submit button", setting(extra=[("submit", "Go")]), 403, "AccessDenied", "Extra input fields"),
    Refusal(
        "a security token without condition",
        setting(extra=[("x-amz-security-token", "t")]),
        400,
        "InvalidToken",
    ),
    Refusal("a condition without its field", conditions({"x-amz-meta-a": "1"}), 403, "AccessDenied", "x-amz-meta-a"),
    Refusal(
        "a prefix condition without its field",
        conditions(["starts-with", "$x-amz-meta-a", ""]),
        403,
        "AccessDenied",
        "x-amz-meta-a",
    ),
    Refusal(
        "a file name that leaves the prefix",
        both(
            setting(fields={"key": "${filename}"}, filename="other.mp4"),
            conditions(["starts-with", "$key", "clip"]),
        ),
        403,
        "AccessDenied",
        "$key",
    ),
    Refusal(
        "an uncovered algorithm",
        document(conditions=[["starts-with", "$key", ""]]),
        403,
        "AccessDenied",
        "Extra input fields: x-amz-algorithm",
    ),
    # Who signed.
    Refusal("an altered policy", altered_policy, 403, "SignatureDoesNotMatch"),
    Refusal("a wrong secret", setting(secret_key="wrong"), 403, "SignatureDoesNotMatch"),
    Refusal("a signature of zeros", replaced("x-amz-signature", "0" * 64), 403, "SignatureDoesNotMatch"),
    Refusal("an empty signature", replaced("x-amz-signature", ""), 403, "SignatureDoesNotMatch"),
    Refusal("an unknown access key", setting(access_key="AKIA0000000000000000"), 403, "InvalidAccessKeyId"),
    Refusal("an unsigned form", stripped, 403, "AccessDenied", "Access Denied"),
    Refusal("a policy without any signature", setting(without=set(SIGNATURE_FIELDS) - {"policy"}), 403, "AccessDenied"),
    Refusal("a scope of another region", setting(region="us-west-2"), 400, "InvalidArgument", "us-west-2"),
    Refusal("a credential of two parts", replaced("x-amz-credential", "AKIA/20260101"), 400, "InvalidArgument"),
    Refusal("a date on another day", replaced("x-amz-date", "20200101T000000Z"), 400, "InvalidArgument"),
    Refusal("another algorithm", replaced("x-amz-algorithm", "AWS4-HMAC-MD5"), 400, "InvalidArgument"),
    Refusal(
        "a signature of version 2",
        both(stripped, setting(extra=[("AWSAccessKeyId", "A"), ("policy", "e30="), ("signature", "s")])),
        400,
        "InvalidRequest",
        "Please use AWS4-HMAC-SHA256",
    ),
    *(
        Refusal(f"no {name}", setting(without={name}), 400, "InvalidArgument", "must contain a field named")
        for name in SIGNATURE_FIELDS
    ),
    Refusal(
        "a policy and a date",
        setting(without={"x-amz-signature", "x-amz-algorithm", "x-amz-credential"}),
        400,
        "InvalidArgument",
        "'X-Amz-Algorithm'",
    ),
    # The form.
    Refusal("no key", setting(fields={}), 400, "InvalidArgument", "field named 'key'"),
    Refusal("an empty key", setting(fields={"key": ""}), 400, "InvalidArgument", "length greater than 0"),
    Refusal("a key of 1025 bytes", setting(fields={"key": "k" * 1025}), 400, "KeyTooLongError"),
    Refusal("no file", setting(without={"file"}), 400, "InvalidArgument", "exactly one file"),
    Refusal("a duplicate field", setting(extra=[("key", "staging/a")]), 400, "InvalidArgument", "duplicate"),
    Refusal("a duplicate in another case", setting(extra=[("KEY", "x")]), 400, "InvalidArgument", "duplicate"),
    Refusal("a field of over 20 KB", fields({"x-ignore-a": "x" * 20_500}), 400, "MaxPostPreDataLengthExceeded"),
    Refusal(
        "many fields of over 20 KB together",
        setting(extra=[(f"x-ignore-{n}", "x" * 1000) for n in range(20)]),
        400,
        "MaxPostPreDataLengthExceeded",
    ),
    Refusal(
        "an urlencoded form",
        setting(content_type="application/x-www-form-urlencoded"),
        412,
        "PreconditionFailed",
        "pre-conditions",
    ),
    Refusal("no boundary", setting(content_type="multipart/form-data"), 400, "MalformedPOSTRequest"),
    Refusal(
        "another boundary",
        setting(content_type="multipart/form-data; boundary=other"),
        400,
        "MalformedPOSTRequest",
    ),
    Refusal("metadata of over 2 KB", fields({"x-amz-meta-a": "x" * 2100}), 400, "MetadataTooLarge"),
    Refusal("an access control list", fields({"acl": "public-read"}), 400, "AccessControlListNotSupported"),
    # The size.
    Refusal("a file one byte too large", conditions(["content-length-range", 0, 9]), 400, "EntityTooLarge"),
    Refusal("a file one byte too small", conditions(["content-length-range", 11, 20]), 400, "EntityTooSmall"),
    Refusal(
        "an empty file where one byte is the least",
        both(setting(file=b""), conditions(["content-length-range", 1, 20])),
        400,
        "EntityTooSmall",
    ),
    Refusal(
        "a large file over the range",
        both(setting(file=b"x" * 3_000_000), conditions(["content-length-range", 0, 2_999_999])),
        400,
        "EntityTooLarge",
    ),
    Refusal(
        "a file outside the narrower of two ranges",
        conditions(["content-length-range", 0, 20], ["content-length-range", 0, 5]),
        400,
        "EntityTooLarge",
    ),
    # The document.
    Refusal("a policy that is no JSON", setting(document="{"), 400, "InvalidPolicyDocument", "Invalid JSON"),
    Refusal("a policy that is a list", setting(document="[]"), 400, "InvalidPolicyDocument"),
    Refusal("no expiration", document(expiration=None), 400, "InvalidPolicyDocument", "expiration"),
    Refusal("an expiration that is no date", document(expiration="soon"), 400, "InvalidPolicyDocument"),
    *(
        Refusal(
            f"an expiration written as {text}", document(expiration=text), 400, "InvalidPolicyDocument", "expiration"
        )
        for text in (
            "2099-01-01",
            "2099-01-01 00:00:00Z",
            "20990101T000000Z",
            "2099-W01-1T00:00:00Z",
            "2099-01-01T00:00Z",
            "2099-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-23:59",
            "2099-02-30T00:00:00Z",
        )
    ),
    Refusal("a policy nested without end", setting(document="[" * 5000), 400, "InvalidPolicyDocument", "Invalid JSON"),
    Refusal("no conditions", document(conditions=None), 400, "InvalidPolicyDocument", "conditions"),
    Refusal("an unknown member", document(comment="x"), 400, "InvalidPolicyDocument"),
    Refusal(
        "a condition with two names",
        document(conditions=[{"key": "a", "acl": "private"}]),
        400,
        "InvalidPolicyDocument",
        "exactly one property",
    ),
    Refusal("an unknown operator", document(conditions=[["ends-with", "$key", ""]]), 400, "InvalidPolicyDocument"),
    *(
        Refusal(
            f"a name without its dollar in {operator}",
            both(conditions([operator, "key", "staging/a"])),
            403,
            "AccessDenied",
            f'Policy Condition failed: ["{operator}", "key", "staging/a"]',
        )
        for operator in ("eq", "starts-with")
    ),
    Refusal("a dollar without a name", conditions(["starts-with", "$", ""]), 403, "AccessDenied", '["starts-with", "$'),
    Refusal("a condition of two strings", document(conditions=[["eq", "$key"]]), 400, "InvalidPolicyDocument"),
    *(
        Refusal(
            f"a range whose bounds are the texts {low!r} and {high!r}",
            conditions(["content-length-range", low, high]),
            403,
            "AccessDenied",
            f'Policy Condition failed: ["content-length-range", {json.dumps(low)}, {json.dumps(high)}]',
        )
        for low, high in (("a", "b"), ("test", "10"), ("0", "ten"), ("", "20"), ("0x1", 20), (0, "1.5"))
    ),
    *(
        Refusal(
            f"a range from {low!r} to {high!r}",
            document(conditions=[["content-length-range", low, high]]),
            400,
            "InvalidPolicyDocument",
        )
        for low, high in ((0.5, 20), (True, 20), (-1, 20), (None, 20), ("-1", "20"), ("a", None))
    ),
    *(
        Refusal(
            f"a condition that is {condition!r}",
            document(conditions=[condition]),
            400,
            "InvalidPolicyDocument",
            message,
        )
        for condition, message in (
            ([], "missing operation identifier"),
            ({}, "exactly one property"),
            (True, "must be a List or Object"),
            (None, "must be a List or Object"),
            ("key", "must be a List or Object"),
            ([1, "$key", ""], "Invalid JSON"),
            (["eq", 1, ""], "Invalid JSON"),
            (["eq", "$key", True], "Invalid JSON"),
            (["eq", "$key", "a", "b"], "Invalid eq: wrong number of arguments"),
            (["content-length-range", 0], "Invalid content-length-range: wrong number of arguments"),
            ({"key": 1}, "value must be a string"),
        )
    ),
    Refusal("conditions that are no list", document(conditions={}), 400, "InvalidPolicyDocument", "must be a List"),
    *(
        Refusal(f"a policy in base64 {what}", setting(encode=encode), 400, "InvalidPolicyDocument", "Base64")
        for what, encode in (
            ("with a character between", lambda text: text[:8] + "*" + text[8:]),
            ("with a line break", lambda text: text[:8] + "\n" + text[8:]),
            ("without its padding", lambda text: (text.rstrip("=") + "A")[: len(text) // 4 * 4 - 1]),
            ("of the URL's alphabet", lambda text: text[:8] + "-_-_" + text[8:]),
        )
    ),
    Refusal("an empty policy", setting(encode=lambda text: ""), 400, "InvalidPolicyDocument", "End-of-Input"),
    Refusal(
        "a bucket that the policy does not name",
        document(
            conditions=[
                ["starts-with", f"${name}", ""] for name in ("key", "x-amz-algorithm", "x-amz-credential", "x-amz-date")
            ]
        ),
        403,
        "AccessDenied",
        "Extra input fields: bucket",
    ),
    *(
        Refusal(
            f"an escape \\{letter} in the policy",
            document_text(f'{{"a": "\\{letter}"}}'),
            400,
            "InvalidPolicyDocument",
            "JSON",
        )
        for letter in "qx "
    ),
    *(
        Refusal(f"the key {key}", fields({"key": key}), 400, "InvalidURI")
        for key in ("..", "../a", "staging/../../a", "./../a", "//../a")
    ),
    # What an answer could not say again.
    *(
        Refusal(f"a line break in {name}", fields({name: "a\r\nSet-Cookie: b"}), 400, "InvalidArgument", "Header value")
        for name in ("Content-Type", "Cache-Control", "x-amz-meta-note")
    ),
    *(
        Refusal(f"the tagging {document}", fields({"tagging": document}), 400, code, "")
        for document, code in (
            ("not-xml", "MalformedXML"),
            ("", "MalformedXML"),
            ("<Tagging><TagSet><Tag><Key>k</Key></Tag></TagSet></Tagging>", "MalformedXML"),
            ("<Tagging><TagSet><Tag><Key>aws:k</Key><Value/></Tag></TagSet></Tagging>", "InvalidTag"),
            ("<Tagging><TagSet>" + 2 * "<Tag><Key>k</Key><Value/></Tag>" + "</TagSet></Tagging>", "InvalidTag"),
        )
    ),
    *(
        Refusal(f"the field {name}", fields({name: value}), status, code)
        for name, value, status, code in (
            ("x-amz-server-side-encryption-customer-algorithm", "AES256", 501, "NotImplemented"),
            ("x-amz-server-side-encryption", "rot13", 400, "InvalidArgument"),
            ("x-amz-object-lock-mode", "GOVERNANCE", 400, "InvalidRequest"),
        )
    ),
    Refusal("an unknown storage class", fields({"x-amz-storage-class": "FAST"}), 400, "InvalidStorageClass"),
    # The checksums.
    *(
        Refusal(
            f"a wrong {algorithm}",
            fields({f"x-amz-checksum-{algorithm.lower()}": base64.b64encode(bytes(width)).decode()}),
            400,
            "BadDigest",
            algorithm,
        )
        for algorithm, width in ZERO.items()
    ),
    Refusal("a wrong Content-MD5", fields({"Content-MD5": base64.b64encode(bytes(16)).decode()}), 400, "BadDigest"),
    Refusal("a Content-MD5 of three bytes", fields({"Content-MD5": "AAAA"}), 400, "InvalidDigest"),
    Refusal("a SHA-256 in hex", fields({"x-amz-checksum-sha256": "ab" * 32}), 400, "InvalidRequest"),
    Refusal(
        "two checksums",
        fields({"x-amz-checksum-sha256": SHA256, "x-amz-checksum-crc32": "AAAAAA=="}),
        400,
        "InvalidRequest",
    ),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_a_form_is_refused_for(refusal, form, stored):
    refusal.change(form)
    response = form.send()
    assert (response.status_code, error_code(response)) == (refusal.status, refusal.code)
    assert refusal.says in (element(response, "Message") or "")
    assert stored() == []


def test_the_same_form_unchanged_is_stored(form, stored):
    assert form.send().status_code == 204
    assert stored() == ["staging/a"]


def test_a_refusal_names_the_bounds(form):
    form.conditions.append(["content-length-range", 0, 9])
    response = form.send()
    assert (element(response, "ProposedSize"), element(response, "MaxSizeAllowed")) == ("10", "9")


def test_a_refused_signature_shows_what_was_to_be_signed(form):
    form.document = "{}"
    form.secret_key = "wrong"
    response = form.send()
    assert element(response, "StringToSign") == base64.b64encode(b"{}").decode()
    assert element(response, "AWSAccessKeyId") == form.s3.access_key


def test_a_refusal_can_be_read_by_the_page_that_posted(form):
    form.conditions.append(["content-length-range", 0, 9])
    form.headers["Origin"] = "https://app.example"
    response = form.send()
    assert response.status_code == 400
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    assert response.headers["access-control-expose-headers"] == "ETag, Location"


def test_a_policy_expires_by_the_servers_clock(form, stored):
    form.expires_in = 60
    form.s3.set_clock(61)
    response = form.send()
    form.s3.set_clock(0)
    assert element(response, "Message") == "Invalid according to Policy: Policy expired."
    assert stored() == []


def test_a_policy_lives_until_then(form, stored):
    form.expires_in = 600
    form.s3.set_clock(570)
    response = form.send()
    form.s3.set_clock(0)
    assert response.status_code == 204
    assert stored() == ["staging/a"]


def test_a_bucket_that_is_not_there(form):
    form.bucket = "no-such-bucket"
    response = form.send()
    assert (response.status_code, error_code(response)) == (404, "NoSuchBucket")


SESSION_SECRET = "session-secret"


@pytest.fixture
def session(embedded_s3):
    """Return temporary credentials that live for an hour."""
    now = datetime.now(UTC)
    session = Session("ASIA00000000000TEST1", SESSION_SECRET, "the-token", now + timedelta(hours=1))
    embedded_s3.add_session(session)
    return session


@pytest.mark.parametrize(
    ("token", "clock", "answer"),
    [
        ("the-token", 0, None),
        (None, 0, (403, "InvalidAccessKeyId")),
        ("another", 0, (400, "InvalidToken")),
        ("the-token", 3601, (400, "ExpiredToken")),
    ],
    ids=["its token", "no token", "another token", "its token after its end"],
)
def test_a_session_signs_with(token, clock, answer, form, session, stored):
    form.access_key, form.secret_key, form.token = session.access_key, session.secret_key, token
    form.expires_in = 7200
    form.s3.set_clock(clock)
    response = form.send()
    form.s3.set_clock(0)
    if answer is None:
        assert response.status_code == 204
        assert stored() == ["staging/a"]
    else:
        assert (response.status_code, error_code(response)) == answer
        assert stored() == []
