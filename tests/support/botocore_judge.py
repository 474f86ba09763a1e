"""botocore as the reference for signatures: the same arguments at the same frozen time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from unittest.mock import patch

import boto3
import botocore.auth
import botocore.session
import botocore.signers
from botocore.client import BaseClient
from botocore.config import Config
from hypothesis import strategies as st

from broker.domain.s3.sigv4 import Credentials

CASES = int(os.environ.get("BROKER_TEST_CASES", "300"))
"""The number of cases of each comparison."""


class Place(NamedTuple):
    """A bucket, the settings to reach it, and its expected URL."""

    url: str
    bucket: str
    region: str
    addressing_style: str = "virtual"
    endpoint_url: str | None = None
    dual_stack: bool = False
    fips: bool = False


PLACES = (
    Place("https://media.s3.us-east-1.amazonaws.com/", "media", "us-east-1"),
    Place("https://media.s3.eu-west-1.amazonaws.com/", "media", "eu-west-1"),
    Place("https://media.s3.ap-southeast-7.amazonaws.com/", "media", "ap-southeast-7"),
    Place("https://media.s3.us-gov-west-1.amazonaws.com/", "media", "us-gov-west-1"),
    Place("https://media.s3.cn-north-1.amazonaws.com.cn/", "media", "cn-north-1"),
    Place("https://media.s3.dualstack.eu-west-1.amazonaws.com/", "media", "eu-west-1", dual_stack=True),
    Place("https://media.s3-fips.us-east-2.amazonaws.com/", "media", "us-east-2", fips=True),
    Place(
        "https://media.s3-fips.dualstack.us-east-2.amazonaws.com/",
        "media",
        "us-east-2",
        dual_stack=True,
        fips=True,
    ),
    Place("https://s3.eu-west-1.amazonaws.com/media/", "media", "eu-west-1", "path"),
    Place("https://s3.dualstack.eu-west-1.amazonaws.com/media/", "media", "eu-west-1", "path", dual_stack=True),
    Place("https://s3.eu-west-1.amazonaws.com/media.example.com/", "media.example.com", "eu-west-1"),
    Place("https://media.store.example/", "media", "eu-west-1", "virtual", "https://store.example"),
    Place("https://store.example/media/", "media", "default", "path", "https://store.example"),
    Place("http://media.store:9000/", "media", "us-east-1", "virtual", "http://store:9000"),
    Place("http://store:9000/media/", "media", "us-east-1", "path", "http://store:9000/"),
    Place("http://127.0.0.1:9000/media/", "media", "us-east-1", "virtual", "http://127.0.0.1:9000"),
    Place("http://[::1]:9000/media/", "media", "us-east-1", "path", "http://[::1]:9000"),
    Place("https://Store.Example:443/media/", "media", "garage", "path", "https://Store.Example:443"),
    Place("http://store.example:80/media/", "media", "garage", "path", "http://store.example:80"),
    Place("https://store.example:80/media/", "media", "garage", "path", "https://store.example:80"),
    Place("https://media.example/s3/media/", "media", "eu-west-1", "path", "https://media.example/s3/"),
)

_botocore_session = botocore.session.Session()
_botocore_session.set_credentials("replaced", "for each case")
_session = boto3.Session(botocore_session=_botocore_session)


@lru_cache(maxsize=len(PLACES))
def _client(place: Place) -> BaseClient:
    return _session.client(
        "s3",
        region_name=place.region,
        endpoint_url=place.endpoint_url,
        config=Config(
            signature_version="s3v4",
            use_dualstack_endpoint=place.dual_stack,
            use_fips_endpoint=place.fips,
            s3={"addressing_style": place.addressing_style, "us_east_1_regional_endpoint": "regional"},
        ),
    )


@contextmanager
def botocore_at(place: Place, credentials: Credentials, now: datetime) -> Iterator[BaseClient]:
    """Yield a client that signs for `place` with these credentials, while botocore's clock is frozen at `now`."""
    keys = _botocore_session.get_credentials()
    keys.access_key, keys.secret_key = credentials.access_key, credentials.secret_key
    keys.token = credentials.session_token

    def clock(remove_tzinfo: bool = True) -> datetime:
        return now.replace(tzinfo=None) if remove_tzinfo else now

    # If awscrt is installed, botocore signs URLs with it, which changes the order of the parameters.
    own_signer = {"s3v4-query": botocore.auth.S3SigV4QueryAuth}
    with (
        patch.dict(botocore.auth.AUTH_TYPE_MAPS, own_signer),
        patch.object(botocore.auth, "get_current_datetime", clock),
        patch.object(botocore.signers, "get_current_datetime", clock),
    ):
        yield _client(place)


encodable = st.characters(exclude_categories=["Cs"])
places = st.sampled_from(PLACES)
object_keys = st.text(encodable, min_size=1, max_size=120).filter(lambda key: not key.endswith("${filename}"))
instants = st.integers(946_684_800_000, 4_102_444_799_999).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC))
"""From 2000 to 2099."""
_tokens = st.text("ABCDEFabcdef0123456789+/=", min_size=1, max_size=400)
credentials = st.builds(
    Credentials,
    access_key=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=16, max_size=20) | st.text(encodable, min_size=1),
    secret_key=st.text(encodable, min_size=1, max_size=80),
    session_token=st.none() | _tokens,
)
