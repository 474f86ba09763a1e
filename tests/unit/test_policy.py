"""Presigned POSTs: their fields and policies, and their equality with those of botocore."""

import json
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.s3.policy import MAX_POLICY_SECONDS, Promise, presign_post
from broker.domain.s3.properties import ObjectProperties
from broker.domain.s3.sigv4 import Address, Credentials
from tests.support import botocore_judge as judge
from tests.support.botocore_judge import Place

NOW = datetime(2026, 2, 28, 23, 59, 30, 999_999, tzinfo=UTC)
KEYS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
CHECKSUM = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="


def promise(**changes: Any) -> Promise:
    promised = {
        "bucket": "media",
        "key": "staging/ab/1",
        "content_type": "video/mp4",
        "min_size": 1,
        "max_size": 100,
    }
    return Promise(**{**promised, **changes})


def policy_of(fields: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(b64decode(fields["policy"]))
    return document


class WithMetadata(Promise):
    """A promise with additional fields, each of which must get a condition."""

    metadata: dict[str, str]

    def exact_fields(self) -> dict[str, str]:
        return {**super().exact_fields(), **self.metadata}


metadata_names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20).map("x-amz-meta-{}".format)
texts = st.text(judge.encodable, max_size=60)


@st.composite
def promises(draw: st.DrawFn, bucket: str) -> Promise:
    smallest, largest = sorted(draw(st.tuples(*[st.integers(0, 5 * 1024**3)] * 2)))
    drawn = WithMetadata(
        bucket=bucket,
        key=draw(judge.object_keys),
        content_type=draw(st.sampled_from(["video/mp4", "video/webm;codecs=vp9", ""]) | texts),
        min_size=smallest,
        max_size=largest,
        sha256=draw(st.none() | st.just(CHECKSUM) | texts),
        redirect_to=draw(st.none() | st.just("https://app.example/done?next=/a b&c=ü") | texts),
    )
    drawn.metadata = draw(st.dictionaries(metadata_names, texts, max_size=3))
    return drawn


@settings(max_examples=judge.CASES, deadline=None)
@given(st.data(), judge.places, judge.credentials, judge.instants, st.integers(1, MAX_POLICY_SECONDS))
def test_a_form_equals_the_one_that_botocore_makes(
    data: st.DataObject, place: Place, keys: Credentials, now: datetime, expires_in: int
) -> None:
    promised = data.draw(promises(place.bucket))
    exact = promised.exact_fields()

    fields = presign_post(promised, keys, now=now, region=place.region, expires_in=expires_in)

    with judge.botocore_at(place, keys, now) as botocore:
        form = botocore.generate_presigned_post(
            promised.bucket,
            promised.key,
            Fields=exact,
            Conditions=[
                *({name: value} for name, value in exact.items()),
                ["content-length-range", promised.min_size, promised.max_size],
            ],
            ExpiresIn=expires_in,
        )
    assert list(fields.items()) == list(form["fields"].items())
    assert Address.of(form["url"]).url == place.url


@pytest.mark.parametrize("place", judge.PLACES, ids=lambda place: place.url)
def test_a_form_goes_to_the_url_that_botocore_names_with_a_slash_at_its_end(place: Place) -> None:
    with judge.botocore_at(place, KEYS, NOW) as botocore:
        url = botocore.generate_presigned_post(place.bucket, "key")["url"]

    assert Address.of(url).url == url.removesuffix("/") + "/"


EVERY_FORM = {
    "any size up to the limit": promise(),
    "an exact size": promise(min_size=7, max_size=7),
    "a checksum": promise(sha256=CHECKSUM),
    "a redirect": promise(redirect_to="https://app.example/api/v1/s3-media/1/uploaded/x"),
}


@pytest.mark.parametrize("promised", EVERY_FORM.values(), ids=EVERY_FORM)
@pytest.mark.parametrize("token", [None, "token"])
def test_every_field_has_a_condition_with_its_only_value(promised: Promise, token: str | None) -> None:
    keys = Credentials(KEYS.access_key, KEYS.secret_key, token)

    fields = presign_post(promised, keys, now=NOW, region="eu-west-1", expires_in=900)

    conditions = policy_of(fields)["conditions"]
    held = {name: value for condition in conditions if isinstance(condition, dict) for name, value in condition.items()}
    assert held == {
        "bucket": "media",
        **{name: value for name, value in fields.items() if name not in {"policy", "x-amz-signature"}},
    }
    others = [condition for condition in conditions if isinstance(condition, list)]
    assert others == [["content-length-range", promised.min_size, promised.max_size]]


FIELDS = [
    ("no redirect", promise(), {"success_action_status": "201"}),
    (
        "a redirect",
        promise(redirect_to="https://a.example/"),
        {"success_action_redirect": "https://a.example/"},
    ),
    (
        "a checksum",
        promise(sha256=CHECKSUM),
        {"success_action_status": "201", "x-amz-checksum-sha256": CHECKSUM},
    ),
]


@pytest.mark.parametrize(("promised", "more"), [row[1:] for row in FIELDS], ids=[row[0] for row in FIELDS])
def test_a_promise_becomes_these_fields(promised: Promise, more: dict[str, str]) -> None:
    assert promised.exact_fields() == {"Content-Type": "video/mp4", **more}


def test_the_policy_expires_at_the_requested_time_across_midnight_and_month() -> None:
    fields = presign_post(promise(), KEYS, now=NOW, region="eu-west-1", expires_in=31)

    assert policy_of(fields)["expiration"] == "2026-03-01T00:00:01Z"
    assert fields["x-amz-date"] == "20260228T235930Z"
    assert fields["x-amz-credential"] == "AKIAIOSFODNN7EXAMPLE/20260228/eu-west-1/s3/aws4_request"


@given(texts, texts)
def test_no_value_breaks_out_of_the_policy(key: str, content_type: str) -> None:
    fields = presign_post(
        promise(key=key, content_type=content_type), KEYS, now=NOW, region="eu-west-1", expires_in=900
    )

    conditions = policy_of(fields)["conditions"]
    assert {"key": key} in conditions
    assert {"Content-Type": content_type} in conditions
    assert len(conditions) == 8


def test_the_fields_of_a_deployment_are_fixed_by_the_policy() -> None:
    properties = ObjectProperties(encryption="aws:kms", kms_key_id="arn:aws:kms:key", tags=(("team", "R+D"),))
    extra = properties.form_fields()
    fields = presign_post(promise(), KEYS, now=NOW, region="eu-central-1", expires_in=60, extra=extra)
    assert (
        fields.items()
        >= {
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:key",
            "tagging": "<Tagging><TagSet><Tag><Key>team</Key><Value>R+D</Value></Tag></TagSet></Tagging>",
        }.items()
    )
    conditions = policy_of(fields)["conditions"]
    assert [condition for condition in conditions if condition in [{name: extra[name]} for name in extra]] == [
        {name: value} for name, value in extra.items()
    ]
