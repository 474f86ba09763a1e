"""Signature Version 4: AWS's published examples, presigned GETs compared with botocore's, and the parts of both."""

import hmac
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.s3 import sigv4
from broker.domain.s3.policy import MAX_PLAYBACK_SECONDS
from broker.domain.s3.sigv4 import Address, Credentials, presign_get
from tests.support import botocore_judge as judge
from tests.support.botocore_judge import Place

KEYS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
NOW = datetime(2026, 2, 28, 23, 59, 30, 999_999, tzinfo=UTC)

# The policy of "Example: Browser-Based Upload using HTTP POST (Using AWS Signature Version 4)", in the Amazon S3 API
# Reference. AWS encodes it with CR LF at the end of each line but the last.
PUBLISHED_POLICY = """{ "expiration": "2015-12-30T12:00:00.000Z",
  "conditions": [
    {"bucket": "sigv4examplebucket"},
    ["starts-with", "$key", "user/user1/"],
    {"acl": "public-read"},
    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},
    ["starts-with", "$Content-Type", "image/"],
    {"x-amz-meta-uuid": "14365123651274"},
    {"x-amz-server-side-encryption": "AES256"},
    ["starts-with", "$x-amz-meta-tag", ""],

    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},
    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
    {"x-amz-date": "20151229T000000Z" }
  ]
}"""


def test_the_published_post_policy_gets_the_published_signature() -> None:
    policy = b64encode(PUBLISHED_POLICY.replace("\n", "\r\n").encode()).decode()

    signature = sigv4.sign(KEYS.secret_key, datetime(2015, 12, 29, tzinfo=UTC), "us-east-1", policy)

    assert signature == "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e"


def test_the_published_presigned_url_is_made() -> None:
    # "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)", in the Amazon S3 API Reference.
    url = presign_get(
        KEYS,
        Address.of("https://examplebucket.s3.amazonaws.com"),
        "test.txt",
        now=datetime(2013, 5, 24, tzinfo=UTC),
        region="us-east-1",
        expires_in=86_400,
    )

    assert url == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


values = st.text(judge.encodable, min_size=1, max_size=80)
filenames = (
    st.sampled_from(["ferie.mp4", "días de sol.mp4", "Фильм.mov", "休暇の動画.webm", "عطلة.mp4", "🎬 (1).mp4"]) | values
)
overrides = st.fixed_dictionaries(
    {},
    optional={
        "response-content-disposition": filenames.map('attachment; filename="{}"'.format),
        "response-content-type": st.sampled_from(["video/mp4", "video/webm;codecs=vp9"]) | values,
        "response-cache-control": st.sampled_from(["private, max-age=3600", "no-store"]) | values,
    },
).flatmap(lambda chosen: st.permutations(list(chosen.items())).map(dict))

BOTOCORE_NAMES = {
    "response-content-disposition": "ResponseContentDisposition",
    "response-content-type": "ResponseContentType",
    "response-cache-control": "ResponseCacheControl",
}


@settings(max_examples=judge.CASES, deadline=None)
@given(
    judge.places,
    judge.object_keys,
    overrides,
    judge.credentials,
    judge.instants,
    st.integers(1, MAX_PLAYBACK_SECONDS),
)
def test_a_playback_url_equals_the_one_that_botocore_makes(
    place: Place, key: str, overrides: dict[str, str], keys: Credentials, now: datetime, expires_in: int
) -> None:
    url = presign_get(
        keys,
        Address.of(place.url),
        key,
        now=now,
        region=place.region,
        expires_in=expires_in,
        overrides=overrides,
    )

    asked = {BOTOCORE_NAMES[name]: value for name, value in overrides.items()}
    with judge.botocore_at(place, keys, now) as botocore:
        assert url == botocore.generate_presigned_url(
            "get_object", Params={"Bucket": place.bucket, "Key": key, **asked}, ExpiresIn=expires_in
        )


@given(st.text(judge.encodable, min_size=1), st.dates(), st.text(judge.encodable), st.text(judge.encodable))
def test_a_signature_is_an_hmac_with_the_derived_key(secret: str, day: datetime, region: str, text: str) -> None:
    key = f"AWS4{secret}".encode()
    for part in (day.strftime("%Y%m%d").zfill(8), region, "s3", "aws4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")

    now = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    assert sigv4.sign(secret, now, region, text) == key.hex()


def test_the_second_signature_of_a_day_does_not_depend_on_the_first() -> None:
    first = sigv4.sign("secret", NOW, "eu-west-1", "first")
    second = sigv4.sign("secret", NOW, "eu-west-1", "second")

    assert first != second
    assert sigv4.sign("secret", NOW, "eu-west-1", "first") == first


@pytest.mark.parametrize(
    ("changed", "arguments"),
    [
        ("secret", ("other", NOW, "eu-west-1", "text")),
        ("day", ("secret", NOW + timedelta(days=1), "eu-west-1", "text")),
        ("region", ("secret", NOW, "eu-west-2", "text")),
        ("text", ("secret", NOW, "eu-west-1", "Text")),
    ],
)
def test_a_signature_depends_on_each_argument(changed: str, arguments: tuple[str, datetime, str, str]) -> None:
    assert sigv4.sign(*arguments) != sigv4.sign("secret", NOW, "eu-west-1", "text"), changed


def test_signatures_with_any_characters_are_compared() -> None:
    assert sigv4.same_signature("abc", "abc")
    assert not sigv4.same_signature("abc", "abd")
    assert not sigv4.same_signature("abc", "äbc")


ADDRESSES = [
    # a bucket's URL, the URL to which keys are appended, and the signed host and path
    ("https://media.s3.amazonaws.com", "https://media.s3.amazonaws.com/", "media.s3.amazonaws.com", "/"),
    ("https://media.s3.amazonaws.com/", "https://media.s3.amazonaws.com/", "media.s3.amazonaws.com", "/"),
    ("http://store:9000/media", "http://store:9000/media/", "store:9000", "/media/"),
    ("https://Store.Example:443/media", "https://Store.Example:443/media/", "store.example", "/media/"),
    ("http://store:80/media/", "http://store:80/media/", "store", "/media/"),
    ("https://store:80/media/", "https://store:80/media/", "store:80", "/media/"),
    ("http://[::1]:9000/media", "http://[::1]:9000/media/", "[::1]:9000", "/media/"),
    ("http://[2001:db8::80]/media", "http://[2001:db8::80]/media/", "[2001:db8::80]", "/media/"),
]


@pytest.mark.parametrize(("given_url", "url", "host", "path"), ADDRESSES)
def test_an_address_names_the_signed_host(given_url: str, url: str, host: str, path: str) -> None:
    assert Address.of(given_url) == Address(url, host, path)


LIFETIMES = [
    ("no end", None, 900, 900),
    ("an end after that", timedelta(hours=1), 900, 900),
    ("an end before that", timedelta(seconds=600), 900, 600),
    ("an end within a second", timedelta(milliseconds=1999), 900, 1),
    ("an end now", timedelta(0), 900, 0),
    ("an end long ago", timedelta(days=-1), 900, 0),
]


@pytest.mark.parametrize(
    ("ends_in", "asked", "lifetime"), [row[1:] for row in LIFETIMES], ids=[row[0] for row in LIFETIMES]
)
def test_a_signature_lives_no_longer_than_its_credentials(ends_in: timedelta | None, asked: int, lifetime: int) -> None:
    ends_at = None if ends_in is None else NOW + ends_in

    assert Credentials("key", "secret", "token", ends_at).lifetime(asked, NOW) == lifetime


def test_secrets_do_not_show_in_a_representation() -> None:
    assert repr(Credentials("AKIA", "hush", "hush", None)) == "Credentials(access_key='AKIA', expires_at=None)"


@given(values)
def test_an_override_arrives_unchanged(value: str) -> None:
    url = presign_get(
        KEYS,
        Address.of("https://media.example/"),
        "key",
        now=NOW,
        region="eu-west-1",
        expires_in=1,
        overrides={"response-content-disposition": value},
    )

    assert parse_qs(urlsplit(url).query, strict_parsing=True)["response-content-disposition"] == [value]
