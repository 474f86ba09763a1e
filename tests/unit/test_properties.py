"""The properties of objects: the fields of forms, and the headers of final objects."""

import pytest

from broker.domain.s3.properties import ObjectProperties

ENCRYPTED = ObjectProperties(encryption="aws:kms", kms_key_id="a-key")
ENCRYPTION = {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "a-key"}
TAGGED = ObjectProperties(tags=(("team", "a&b"), ("cost <center>", "7")))
TAGGING = (
    "<Tagging><TagSet><Tag><Key>team</Key><Value>a&amp;b</Value></Tag>"
    "<Tag><Key>cost &lt;center&gt;</Key><Value>7</Value></Tag></TagSet></Tagging>"
)


@pytest.mark.parametrize(
    ("properties", "fields", "headers"),
    [
        (ObjectProperties(), {}, {}),
        (ObjectProperties(encryption="AES256"), *[{"x-amz-server-side-encryption": "AES256"}] * 2),
        (ENCRYPTED, ENCRYPTION, ENCRYPTION),
        (TAGGED, {"tagging": TAGGING}, {"x-amz-tagging": "team=a%26b&cost+%3Ccenter%3E=7"}),
        (ObjectProperties(storage_class="STANDARD_IA"), {}, {"x-amz-storage-class": "STANDARD_IA"}),
        (ObjectProperties(cache_control="private, max-age=60"), {}, {"cache-control": "private, max-age=60"}),
    ],
    ids=["none", "encrypted", "by a key of KMS", "tags", "storage class", "cache control"],
)
def test_properties_become_fields_and_headers(
    properties: ObjectProperties, fields: dict[str, str], headers: dict[str, str]
) -> None:
    assert properties.form_fields() == fields
    assert properties.final_headers() == headers
