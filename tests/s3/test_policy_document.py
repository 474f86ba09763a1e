"""POST policies without a server: what is read from a document, which forms it allows, and each refusal's words."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.dev.s3.errors import S3Error
from broker.dev.s3.policy import Condition, Policy, read_policy

ENDS = datetime(2026, 1, 31, 12, tzinfo=UTC)
EXPIRATION = "2026-01-31T12:00:00Z"
FIELDS = {"key": "staging/a", "content-type": "video/mp4"}
DENIED = "AccessDenied: Invalid according to Policy: "
COVERED = [{"bucket": "videos"}, ["starts-with", "$key", "staging/"], ["eq", "$Content-Type", "video/mp4"]]


def encoded(document: Any) -> str:
    text = document if isinstance(document, str) else json.dumps(document)
    return base64.b64encode(text.encode()).decode()


def policy_of(*conditions: Any, expiration: Any = EXPIRATION) -> Policy:
    return read_policy(encoded({"expiration": expiration, "conditions": list(conditions)}))


def refusal_of(call: Any) -> S3Error:
    with pytest.raises(S3Error) as refused:
        call()
    return refused.value


def enforced(policy: Policy, fields: dict[str, str], now: datetime = ENDS - timedelta(seconds=1)) -> str | None:
    """Return the reason for which a form is refused, or None if the policy allows it."""
    try:
        policy.enforce(FIELDS | fields, "videos", now)
    except S3Error as error:
        return f"{error.code}: {error.message}"
    return None


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", "Invalid JSON."),
        ("[]", "Invalid JSON."),
        ('"text"', "Invalid JSON."),
        ("[" * 5000, "Invalid JSON."),
        ({"zz": 1, "aa": 1}, "Unexpected: 'aa'."),
        ({"conditions": []}, "Policy missing expiration."),
        ({"expiration": EXPIRATION}, "Policy missing conditions."),
        ({"expiration": EXPIRATION, "conditions": {}}, "Invalid 'conditions' value: must be a List."),
        *(
            ({"expiration": text, "conditions": []}, f"Invalid 'expiration' value: '{text}'")
            for text in (7, None, "", "soon", "2026-01-31", "2026-02-30T00:00:00Z", "2026-01-31T12:00:00+00:00")
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_malformed_document_is_refused_by_its_fault(document: Any, reason: str) -> None:
    text = encoded(document) if document else "IA=="
    refused = refusal_of(lambda: read_policy(text))
    assert (refused.code, refused.status) == ("InvalidPolicyDocument", 400)
    assert refused.message == f"Invalid Policy: {reason}"


GOOD = encoded({"expiration": EXPIRATION, "conditions": []})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting '{' but found End-of-Input"),
        (GOOD[:8] + "*" + GOOD[8:], "invalid Base64 encoding."),
        (GOOD[:8] + "\n" + GOOD[8:], "invalid Base64 encoding."),
        (GOOD[:8] + "-_-_" + GOOD[8:], "invalid Base64 encoding."),
        (GOOD + "A", "invalid Base64 encoding."),
        ("é", "invalid Base64 encoding."),
        (base64.b64encode(b"\xff").decode(), "Invalid JSON."),
    ],
)
def test_a_policy_that_is_not_strict_base64_of_utf_8_is_refused(text: str, reason: str) -> None:
    refused = refusal_of(lambda: read_policy(text))
    assert (refused.code, refused.message) == ("InvalidPolicyDocument", f"Invalid Policy: {reason}")


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ({}, "Invalid Simple-Condition: Simple-Conditions must have exactly one property specified."),
        ({"a": "1", "b": "2"}, "Invalid Simple-Condition: Simple-Conditions must have exactly one property specified."),
        ({"a": 1}, "Invalid Simple-Condition: value must be a string."),
        ([], "Invalid Condition: missing operation identifier."),
        (["ends-with", "$a", "b"], "Invalid Condition: unknown operation 'ends-with'."),
        (["EQ", "$a", "b"], "Invalid Condition: unknown operation 'EQ'."),
        (["eq", "$a"], "Invalid eq: wrong number of arguments."),
        (["starts-with", "$a", "b", "c"], "Invalid starts-with: wrong number of arguments."),
        (["content-length-range", 0], "Invalid content-length-range: wrong number of arguments."),
        (["eq", 1, "b"], "Invalid JSON."),
        (["eq", "$a", 1], "Invalid JSON."),
        ([1, "$a", "b"], "Invalid JSON."),
        ("a", "Invalid condition: must be a List or Object."),
        (None, "Invalid condition: must be a List or Object."),
        (["content-length-range", 0.5, 1], "Invalid JSON."),
        (["content-length-range", 0, True], "Invalid JSON."),
        (["content-length-range", -1, 1], "Invalid content-length-range: a bound must be a number of bytes."),
        (["content-length-range", "0", "-1"], "Invalid content-length-range: a bound must be a number of bytes."),
        (["content-length-range", 0, 10**18], "Invalid content-length-range: a bound must be a number of bytes."),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_a_malformed_condition_is_refused_by_its_fault(condition: Any, reason: str) -> None:
    refused = refusal_of(lambda: policy_of(condition))
    assert (refused.code, refused.message) == ("InvalidPolicyDocument", f"Invalid Policy: {reason}")


@pytest.mark.parametrize(
    ("item", "condition"),
    [
        ({"Acl": "É"}, Condition("eq", "acl", "É", '["eq", "$Acl", "É"]')),
        (["eq", "$Acl", "É"], Condition("eq", "acl", "É", '["eq", "$Acl", "É"]')),
        (["starts-with", "$$a", ""], Condition("starts-with", "$a", "", '["starts-with", "$$a", ""]')),
        (["starts-with", "a", "b"], Condition("starts-with", None, "b", '["starts-with", "a", "b"]')),
        (
            ["content-length-range", "a", 1],
            Condition("content-length-range", None, "", '["content-length-range", "a", 1]'),
        ),
        (
            ["content-length-range", 1, "1.5"],
            Condition("content-length-range", None, "", '["content-length-range", 1, "1.5"]'),
        ),
    ],
    ids=str,
)
def test_a_condition_is_read(item: Any, condition: Condition) -> None:
    assert policy_of(item).conditions == (condition,)


@pytest.mark.parametrize(
    ("ranges", "bounds"),
    [
        ([], (0, None)),
        ([(0, 0)], (0, 0)),
        ([(1, 20)], (1, 20)),
        ([("1", "20")], (1, 20)),
        ([(3, 20), (1, 30)], (3, 20)),
        ([(1, 30), (3, 20)], (3, 20)),
        ([(0, 10**18 - 1)], (0, 10**18 - 1)),
    ],
    ids=str,
)
def test_the_narrowest_range_of_sizes_counts(ranges: list[Any], bounds: tuple[int, int | None]) -> None:
    policy = policy_of(*(["content-length-range", *each] for each in ranges))
    assert (policy.size_min, policy.size_max) == bounds
    assert policy.conditions == ()


def test_both_bounds_of_a_range_are_allowed() -> None:
    policy = policy_of(["content-length-range", 5, 10])
    policy.check_upper_bound(10)
    policy.check_lower_bound(5)
    policy_of().check_upper_bound(10**18)
    policy_of().check_lower_bound(0)
    large, small = refusal_of(lambda: policy.check_upper_bound(11)), refusal_of(lambda: policy.check_lower_bound(4))
    assert (large.code, large.elements) == ("EntityTooLarge", {"ProposedSize": 11, "MaxSizeAllowed": 10})
    assert (small.code, small.elements) == ("EntityTooSmall", {"ProposedSize": 4, "MinSizeAllowed": 5})


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        (EXPIRATION, ENDS),
        ("2026-01-31T12:00:00.5Z", ENDS + timedelta(milliseconds=500)),
        ("2026-01-31T12:00:00.123456Z", ENDS + timedelta(microseconds=123_456)),
    ],
)
@pytest.mark.usefixtures("in_tokyo")
def test_an_expiration_is_an_instant_in_utc(text: str, instant: datetime) -> None:
    ends_at = policy_of(expiration=text).expires_at
    assert (ends_at, ends_at.tzinfo) == (instant, UTC)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\$key", "$key"),
        (r"a\vb", "a\vb"),
        (r"a\\$", "a\\$"),
        (r"\u0041\n\t\"", 'A\n\t"'),
        ("É", "É"),
    ],
)
def test_the_escapes_of_s3_and_of_json_are_read(text: str, value: str) -> None:
    document = f'{{"expiration": "{EXPIRATION}", "conditions": [{{"key": "{text}"}}]}}'
    assert read_policy(encoded(document)).conditions[0].value == value


def test_a_policy_expires_at_its_instant() -> None:
    policy = policy_of(*COVERED)
    assert enforced(policy, {}, ENDS - timedelta(microseconds=1)) is None
    assert enforced(policy, {}, ENDS) == f"{DENIED}Policy expired."


@pytest.mark.parametrize(
    ("conditions", "fields", "reason"),
    [
        (COVERED, {}, None),
        (COVERED, {"x-amz-signature": "s", "file": "f", "policy": "p", "x-ignore-a": "1"}, None),
        (COVERED, {"a": "1", "x-amz-meta-b": "2"}, "Extra input fields: a, x-amz-meta-b"),
        (COVERED[1:], {}, "Extra input fields: bucket"),
        ([*COVERED, {"bucket": "other"}], {}, 'Policy Condition failed: ["eq", "$bucket", "other"]'),
        ([*COVERED, {"acl": "a"}], {}, 'Policy Condition failed: ["eq", "$acl", "a"]'),
        ([*COVERED, ["starts-with", "$acl", ""]], {}, 'Policy Condition failed: ["starts-with", "$acl", ""]'),
        ([*COVERED, ["starts-with", "$acl", ""]], {"acl": ""}, None),
        ([*COVERED, ["eq", "acl", ""]], {"acl": ""}, 'Policy Condition failed: ["eq", "acl", ""]'),
        ([*COVERED, ["eq", "$acl", "a"]], {"acl": "ab"}, 'Policy Condition failed: ["eq", "$acl", "a"]'),
        ([*COVERED, ["starts-with", "$acl", "a"]], {"acl": "ab"}, None),
        (
            [*COVERED, ["starts-with", "$acl", "a"]],
            {"acl": "A"},
            'Policy Condition failed: ["starts-with", "$acl", "a"]',
        ),
        ([*COVERED, ["starts-with", "$acl", "a"]], {"acl": "a,b"}, None),
        ([*COVERED, ["starts-with", "$Content-Type", "video/"]], {"content-type": "video/mp4"}, None),
        (
            [*COVERED[:2], ["starts-with", "$Content-Type", "video/"]],
            {"content-type": "video/mp4, text/html"},
            'Policy Condition failed: ["starts-with", "$Content-Type", "video/"]',
        ),
        ([*COVERED[:2], ["starts-with", "$Content-Type", "video/"]], {"content-type": "video/mp4 , video/ogg"}, None),
    ],
    ids=str,
)
def test_a_form_is_allowed_if_each_condition_holds_and_covers_each_field(
    conditions: list[Any], fields: dict[str, str], reason: str | None
) -> None:
    assert enforced(policy_of(*conditions), fields) == (reason and f"{DENIED}{reason}")
