"""The address of a bucket: the same as botocore resolves."""

from datetime import UTC, datetime

import pytest

from broker.aws.endpoint import bucket_url
from broker.domain.s3.sigv4 import Credentials
from broker.errors import SettingsInvalid
from tests.support import botocore_judge as judge
from tests.support.botocore_judge import Place

KEYS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
OTHERS = (
    Place("", "media", "eu-isoe-west-1"),
    Place("", "media", "us-iso-east-1"),
    Place("", "media", "us-west-9"),
    Place("", "Media_1", "eu-west-1"),
    Place("", "-media", "eu-west-1"),
    Place("", "a.b", "eu-west-1", "virtual", "http://store.example"),
    Place("", "192.168.1.1", "eu-west-1"),
    Place("", "media", "cn-north-1", dual_stack=True),
    Place("", "media", "eu-west-1", "virtual", "http://10.0.0.7:9000/s3"),
)


@pytest.mark.parametrize("place", judge.PLACES + OTHERS, ids=str)
def test_a_bucket_s_url_equals_botocore_s(place: Place) -> None:
    with judge.botocore_at(place, KEYS, datetime.now(UTC)) as client:
        expected = client.generate_presigned_post(place.bucket, "key")["url"]

    url = bucket_url(
        place.bucket,
        region=place.region,
        endpoint_url=place.endpoint_url,
        path_style=place.addressing_style == "path",
        dual_stack=place.dual_stack,
        fips=place.fips,
    )

    assert url == expected.rstrip("/") + "/"


def test_a_region_that_aws_does_not_have_is_refused_by_the_name_of_its_setting() -> None:
    with pytest.raises(SettingsInvalid, match="AWS_S3_REGION: should be a region of AWS, not 'garage'"):
        bucket_url("media", region="garage", endpoint_url=None, path_style=False, dual_stack=False, fips=False)
