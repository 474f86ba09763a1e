"""POST Object: the forms that it accepts, and the wording of its answers."""

import base64
import hashlib
import zlib
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest
from awscrt import checksums as crt
from botocore.config import Config

from tests.s3.forms import TEN_BYTES, element

ETAG = f'"{hashlib.md5(TEN_BYTES, usedforsecurity=False).hexdigest()}"'


def b64(digest):
    """Return bytes, or a CRC of some width, as base64."""
    return base64.b64encode(digest).decode()


CHECKSUMS = {
    "CRC32": b64(zlib.crc32(TEN_BYTES).to_bytes(4, "big")),
    "CRC32C": b64(crt.crc32c(TEN_BYTES).to_bytes(4, "big")),
    "CRC64NVME": b64(crt.crc64nvme(TEN_BYTES).to_bytes(8, "big")),
    "SHA1": b64(hashlib.sha1(TEN_BYTES, usedforsecurity=False).digest()),
    "SHA256": b64(hashlib.sha256(TEN_BYTES).digest()),
}


@pytest.mark.parametrize(("asked", "status"), [(None, 204), ("200", 200), ("204", 204), ("299", 204), ("x", 204)])
def test_a_form_is_answered_without_a_body(asked, status, form, s3_client, bucket):
    if asked is not None:
        form.fields["success_action_status"] = asked
    response = form.send()
    assert (response.status_code, response.content) == (status, b"")
    assert response.headers["etag"] == ETAG
    assert response.headers["location"] == f"{form.s3.endpoint_url}/{bucket}/staging%2Fa"
    assert s3_client.get_object(Bucket=bucket, Key="staging/a")["Body"].read() == TEN_BYTES


def test_201_answers_with_xml(form, bucket):
    form.fields["success_action_status"] = "201"
    response = form.send()
    assert response.status_code == 201
    assert response.headers["content-type"] == "application/xml"
    found = {name: element(response, name) for name in ("Location", "Bucket", "Key", "ETag")}
    assert found == {
        "Location": f"{form.s3.endpoint_url}/{bucket}/staging%2Fa",
        "Bucket": bucket,
        "Key": "staging/a",
        "ETag": ETAG,
    }


@pytest.mark.parametrize("query", ["", "a=1&b=%20"], ids=["no query", "a query of its own"])
def test_a_redirect_wins_over_the_status_and_carries_three_parameters(query, form, bucket):
    form.fields["success_action_status"] = "201"
    form.fields["success_action_redirect"] = f"https://app.example/done?{query}"
    response = form.send()
    assert response.status_code == 303
    target = urlsplit(response.headers["location"])
    assert (target.scheme, target.netloc, target.path) == ("https", "app.example", "/done")
    assert target.query.startswith(query)
    added = {"bucket": [bucket], "key": ["staging/a"], "etag": [ETAG]}
    assert parse_qs(target.query) == parse_qs(query) | added


@pytest.mark.parametrize("written", ["javascript:alert(1)", "http://[x/", "https://"])
def test_a_redirect_that_is_no_url_is_as_if_it_were_not_there(written, form):
    form.fields["success_action_redirect"] = written
    assert form.send().status_code == 204


def test_both_bounds_of_the_range_are_included(form):
    form.conditions.append(["content-length-range", 10, 10])
    assert form.send().status_code == 204


def test_field_names_match_in_any_case(form, s3_client, bucket):
    form.fields = {"KEY": "staging/a", "content-TYPE": "video/mp4"}
    form.conditions += [["eq", "$Content-Type", "video/mp4"], ["starts-with", "$kEy", "staging/"]]
    assert form.send().status_code == 204
    assert s3_client.head_object(Bucket=bucket, Key="staging/a")["ContentType"] == "video/mp4"


@pytest.mark.parametrize(
    ("filename", "key"),
    [
        ("film.mp4", "u/film.mp4"),
        (r"C:\Videos\film.mp4", "u/film.mp4"),
        ("a/b/film.mp4", "u/film.mp4"),
        ("фильм 電影.mp4", "u/фильм 電影.mp4"),
    ],
)
def test_the_file_name_takes_its_place_in_the_key(filename, key, form, stored):
    form.fields["key"] = "u/${filename}"
    form.filename = filename.replace("\\", "\\\\")
    form.conditions.append(["starts-with", "$key", "u/"])
    assert form.send().status_code == 204
    assert stored() == [key]


def test_fields_after_the_file_are_ignored(form, stored):
    form.after_file = [("key", "other", None), ("x-amz-meta-a", "1", None), ("file", "second", "b.mp4")]
    assert form.send().status_code == 204
    assert stored() == ["staging/a"]


def test_ignored_fields_need_no_condition(form):
    form.extra = [("x-ignore-anything", "1"), ("X-Ignore-Case", "1")]
    assert form.send().status_code == 204


def test_the_type_of_the_file_part_does_not_count(form, s3_client, bucket):
    form.send()
    assert s3_client.head_object(Bucket=bucket, Key="staging/a")["ContentType"] == "binary/octet-stream"


def test_what_the_fields_say_comes_back_with_the_object(form, s3_client, bucket):
    form.fields |= {
        "Content-Type": "video/mp4",
        "Cache-Control": "no-store",
        "Content-Disposition": "inline",
        "x-amz-meta-owner": "user-1",
        "x-amz-meta-title": "Größe",
        "x-amz-storage-class": "STANDARD_IA",
        "tagging": "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
    }
    assert form.send().status_code == 204
    head = s3_client.head_object(Bucket=bucket, Key="staging/a")
    assert (head["ContentType"], head["CacheControl"]) == ("video/mp4", "no-store")
    assert (head["ContentDisposition"], head["StorageClass"]) == ("inline", "STANDARD_IA")
    assert head["Metadata"] == {"owner": "user-1", "title": "=?UTF-8?Q?Gr=C3=B6=C3=9Fe?="}
    tags = s3_client.get_object_tagging(Bucket=bucket, Key="staging/a")["TagSet"]
    assert tags == [{"Key": "k", "Value": "v"}]


@pytest.mark.parametrize("algorithm", CHECKSUMS)
def test_a_checksum_is_kept_and_read_back(algorithm, form, s3_client, bucket):
    form.fields[f"x-amz-checksum-{algorithm.lower()}"] = CHECKSUMS[algorithm]
    assert form.send().status_code == 204
    head = s3_client.head_object(Bucket=bucket, Key="staging/a", ChecksumMode="ENABLED")
    assert (head[f"Checksum{algorithm}"], head["ChecksumType"]) == (CHECKSUMS[algorithm], "FULL_OBJECT")


def test_without_a_checksum_the_object_gets_a_crc64nvme(form, s3_client, bucket):
    form.fields["Content-MD5"] = b64(hashlib.md5(TEN_BYTES, usedforsecurity=False).digest())
    assert form.send().status_code == 204
    head = s3_client.head_object(Bucket=bucket, Key="staging/a", ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == CHECKSUMS["CRC64NVME"]
    assert "ChecksumCRC64NVME" not in s3_client.head_object(Bucket=bucket, Key="staging/a")


def test_a_form_may_be_posted_again_and_replaces_the_object(form, s3_client, bucket):
    form.send()
    form.file = b"another"
    assert form.send().status_code == 204
    assert s3_client.get_object(Bucket=bucket, Key="staging/a")["Body"].read() == b"another"


@pytest.mark.parametrize("host", ["{bucket}.localhost", "{bucket}.s3.eu-central-1.amazonaws.com"])
def test_the_bucket_may_stand_in_the_host(host, form, bucket, stored):
    form.headers["Host"] = host.format(bucket=bucket)
    response = httpx.post(
        f"{form.s3.endpoint_url}/",
        content=form.body(),
        headers={"Content-Type": form.content_type} | form.headers,
    )
    assert response.status_code == 204
    assert response.headers["location"] == f"http://{form.headers['Host']}/staging%2Fa"
    assert stored() == ["staging/a"]


def test_a_form_that_botocore_signed_is_accepted(embedded_s3, s3_client, bucket, stored):
    post = s3_client.generate_presigned_post(
        bucket,
        "staging/b",
        Fields={"Content-Type": "video/mp4"},
        Conditions=[{"Content-Type": "video/mp4"}, ["content-length-range", 10, 10]],
        ExpiresIn=60,
    )
    response = httpx.post(post["url"], data=post["fields"], files={"file": ("a.mp4", TEN_BYTES)})
    assert response.status_code == 204
    assert stored() == ["staging/b"]


def test_a_session_handed_out_by_sts_signs(embedded_s3, bucket, stored):
    def client(service, **keys):
        return boto3.client(
            service,
            endpoint_url=embedded_s3.endpoint_url,
            region_name=embedded_s3.region,
            config=Config(signature_version="s3v4" if service == "s3" else None),
            **keys,
        )

    sts = client("sts", aws_access_key_id=embedded_s3.access_key, aws_secret_access_key=embedded_s3.secret_key)
    role = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/uploader", RoleSessionName="test")
    keys = role["Credentials"]
    s3 = client(
        "s3",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    post = s3.generate_presigned_post(bucket, "staging/c", ExpiresIn=60)
    assert "x-amz-security-token" in post["fields"]
    response = httpx.post(post["url"], data=post["fields"], files={"file": ("a.mp4", TEN_BYTES)})
    assert response.status_code == 204
    assert stored() == ["staging/c"]


@pytest.mark.parametrize("key", ["a/..", "videos/2014/../../clip.mp4", "./a", "a/..b/../../c", "a//b", "..a"])
def test_a_key_may_go_up_by_as_many_steps_as_it_went_down(key, form, stored):
    form.fields["key"] = key
    assert form.send().status_code == 204
    assert stored() == [key]


def test_a_file_without_a_name_leaves_the_placeholder_in_the_key(form, stored):
    form.fields["key"] = "in/${filename}"
    form.filename = None
    assert form.send().status_code == 204
    assert stored() == ["in/${filename}"]


def test_a_file_with_an_empty_name_empties_the_placeholder(form, stored):
    form.fields["key"] = "in/${filename}-a"
    form.conditions.append(["starts-with", "$key", "in/"])
    form.filename = ""
    assert form.send().status_code == 204
    assert stored() == ["in/-a"]


def test_a_dollar_may_be_escaped_in_the_policy(form, stored):
    form.fields["key"] = "price $5"
    form.encode = lambda text: base64.b64encode(base64.b64decode(text).replace(b"price $5", rb"price \$5")).decode()
    assert form.send().status_code == 204
    assert stored() == ["price $5"]


def test_a_vertical_tab_may_be_escaped_in_the_policy(form, stored):
    form.fields["x-ignore-a"] = "a\vb"
    form.encode = lambda text: base64.b64encode(base64.b64decode(text).replace(rb"\u000b", rb"\v")).decode()
    assert form.send().status_code == 204
    assert stored() == ["staging/a"]


@pytest.mark.parametrize("key", ["\\$foo.txt", "a\\\\b", 'quo"te', "ü/\u2028"])
def test_escapes_of_json_mean_what_they_mean_in_json(key, form, stored):
    form.fields["key"] = key
    form.conditions.append(["starts-with", "$key", key[:2]])
    assert form.send().status_code == 204
    assert stored() == [key]


def test_xml_of_another_kind_as_tagging_means_no_tags(form, s3_client, bucket):
    form.fields["tagging"] = "<InvalidXmlTagging></InvalidXmlTagging>"
    assert form.send().status_code == 204
    assert s3_client.get_object_tagging(Bucket=bucket, Key="staging/a")["TagSet"] == []


@pytest.mark.parametrize(
    ("value", "header"),
    [
        ("plain \t!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "plain \t!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
        ("ÄMÄZÕÑ S3", "=?UTF-8?Q?=C3=84M=C3=84Z=C3=95=C3=91_S3?="),
        ("test_—_é_2👑?.pdf", "=?UTF-8?Q?test=5F=E2=80=94=5F=C3=A9=5F2=F0=9F=91=91=3F.pdf?="),
        ("\x00\x01\x02\x03\x04", "=?UTF-8?B?AAECAwQ=?="),
        ("\x7f", "=?UTF-8?B?fw==?="),
        ("=?UTF-8?Q?actually-ascii?=", "=?UTF-8?Q?actually-ascii?="),
    ],
)
def test_metadata_comes_back_as_a_header_can_carry_it(value, header, form, requests):
    form.fields["x-amz-meta-a"] = value
    assert form.send().status_code == 204
    assert httpx.head(requests.presign("staging/a", method="HEAD")).headers["x-amz-meta-a"] == header.strip()


def test_another_header_keeps_what_is_in_iso_8859_1(form, requests):
    form.fields["Cache-Control"] = "non-ascii-%E2_—_é_"
    assert form.send().status_code == 204
    headers = httpx.head(requests.presign("staging/a", method="HEAD")).headers.raw
    assert dict(headers)[b"cache-control"] == "non-ascii-%E2_ _é_".encode("latin-1")
