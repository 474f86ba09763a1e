"""The addresses of a bucket: clients get the public one, and the broker itself uses its own."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from freezegun import freeze_time

from broker.aws.bucket import Bucket
from broker.domain.s3.policy import Promise
from broker.domain.s3.properties import ObjectProperties
from broker.domain.s3.sigv4 import Address, Credentials, presign_get, signed_headers
from broker.errors import CredentialsExpired, StorageUnavailable
from tests.support.scripted import bucket_at

INTERNAL, PUBLIC = "http://minio:9000", "https://s3.example"
KEYS = Credentials("AKIAIOSFODNN7EXAMPLE", "a-secret-key", None)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def bucket_of(seconds_left: int | None = None, **options: object) -> Bucket:
    """Return a bucket with both addresses, whose keys expire after `seconds_left`."""
    expires_at = None if seconds_left is None else NOW + timedelta(seconds=seconds_left)
    options = {"credentials": replace(KEYS, expires_at=expires_at), "public_endpoint_url": PUBLIC, **options}
    return bucket_at(INTERNAL, **options)


def link(url: str, expires_in: int, overrides: dict[str, str] | None = None) -> str:
    """Return the link that the domain signs for a key at this address."""
    address = Address.of(f"{url}/videos/")
    return presign_get(
        KEYS, address, "media/a", now=NOW, region="eu-central-1", expires_in=expires_in, overrides=overrides
    )


@pytest.mark.parametrize(("public", "form_url"), [(PUBLIC, f"{PUBLIC}/videos/"), (None, f"{INTERNAL}/videos/")])
async def test_forms_are_posted_to_the_public_address_if_there_is_one(public: str | None, form_url: str) -> None:
    bucket = bucket_of(public_endpoint_url=public)
    assert bucket.form_url == form_url
    await bucket.close()


async def test_forms_carry_the_region_and_the_properties_of_the_deployment() -> None:
    bucket = bucket_of(properties=ObjectProperties(encryption="AES256"))
    promise = Promise("videos", "staging/a", "video/mp4", 1, 9)
    fields = bucket.sign_upload(promise, KEYS, now=NOW, expires_in=60)
    assert fields["x-amz-credential"] == "AKIAIOSFODNN7EXAMPLE/20260102/eu-central-1/s3/aws4_request"
    assert fields["x-amz-server-side-encryption"] == "AES256"
    await bucket.close()


@pytest.mark.parametrize(("left", "told"), [(None, 3600), (3601, 3600), (60, 60), (1, 1)])
async def test_a_playback_link_is_public_and_ends_with_the_keys(left: int | None, told: int) -> None:
    bucket = bucket_of(left)
    overrides = {"response-content-disposition": "attachment"}
    assert await bucket.playback_link("media/a", 3600, now=NOW, overrides=overrides) == (
        link(PUBLIC, told, overrides),
        told,
    )
    await bucket.close()


async def test_no_playback_link_is_signed_with_keys_that_end_now() -> None:
    bucket = bucket_of(1)
    with pytest.raises(CredentialsExpired):
        await bucket.playback_link("media/a", 3600, now=NOW + timedelta(seconds=0.5), overrides={})
    await bucket.close()


async def test_a_playback_link_of_a_distribution_outlives_the_keys() -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    bucket = bucket_of(0, cloudfront=("https://media.example", "K2EXAMPLE", pem))
    overrides = {"response-content-type": "a/b", "response-cache-control": "no-store"}
    url, told = await bucket.playback_link("media/a b", 3600, now=NOW, overrides=overrides)
    query = "response-content-type=a%2Fb&response-cache-control=no-store&Expires=1767326645&Signature="
    assert url.startswith(f"https://media.example/media/a%20b?{query}")
    assert url.endswith("&Key-Pair-Id=K2EXAMPLE")
    assert told == 3600
    await bucket.close()


async def test_another_program_reads_by_signed_headers_at_the_brokers_own_address() -> None:
    bucket = bucket_of()
    with freeze_time(NOW, real_asyncio=True):
        read = await bucket.signed_read("staging/a b", "abc")
    address, condition = Address.of(f"{INTERNAL}/videos/"), {"if-match": '"abc"'}
    assert read.url == f"{INTERNAL}/videos/staging/a%20b"
    assert read.headers == signed_headers(
        KEYS, address, "GET", "staging/a b", now=NOW, region="eu-central-1", headers=condition
    )
    await bucket.close()


async def test_the_broker_reads_nothing_with_expired_keys() -> None:
    bucket = bucket_of(0)
    with pytest.raises(StorageUnavailable) as failure:
        await bucket.signed_read("media/a", "abc")
    assert failure.value.facts == {"operation": "get_object", "cause": "CredentialsExpired"}
    await bucket.close()


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "https://videos.s3.eu-central-1.amazonaws.com/"),
        ({"dual_stack": True}, "https://videos.s3.dualstack.eu-central-1.amazonaws.com/"),
        ({"fips": True, "region": "us-west-2"}, "https://videos.s3-fips.us-west-2.amazonaws.com/"),
        ({"path_style": True}, "https://s3.eu-central-1.amazonaws.com/videos/"),
    ],
)
async def test_a_bucket_of_aws_is_addressed_as_the_deployment_says(options: dict[str, object], url: str) -> None:
    bucket = bucket_at("", **{"endpoint_url": None, "path_style": False, **options})
    assert bucket.form_url == url
    await bucket.close()
