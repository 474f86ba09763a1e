"""Lists, tags, CORS documents and versions: the siblings of the recorded answers."""

import base64
import re

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from broker.dev.s3 import start_embedded_s3
from broker.dev.s3.plane import is_version_id, new_version_id


def refusal(call, **arguments):
    """Return the status and code of a refused call."""
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"], error.value.response["Error"]["Code"]


@pytest.mark.parametrize("query", ["?list-type=2", "", "?versions"])
def test_a_list_gives_instants_in_whole_seconds(query, requests):
    requests.send("PUT", "a")
    url = f"{requests.s3.endpoint_url}/{requests.bucket}{query}"
    text = httpx.get(url, headers=requests.signed_headers("GET", url)).text
    instants = re.findall(r"<LastModified>(.*?)</LastModified>", text)
    assert len(instants) == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", instants[0])


@pytest.mark.parametrize(
    "token", ["a", "!!!!", "AAAA", base64.b64encode(b"key").decode(), "dGVzdA", "ÄÄÄÄ"], ids=range(6)
)
def test_a_token_that_no_list_gave_is_refused(token, s3_client, bucket):
    assert refusal(s3_client.list_objects_v2, Bucket=bucket, ContinuationToken=token) == (400, "InvalidArgument")


@pytest.mark.parametrize("size", [-1, 2**31])
def test_a_page_of_no_possible_size_is_refused(size, s3_client, bucket):
    assert refusal(s3_client.list_objects_v2, Bucket=bucket, MaxKeys=size) == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ([("k" * 128, "v" * 256)], None),
        ([("k" * 129, "v")], "InvalidTag"),
        ([("k", "v" * 257)], "InvalidTag"),
        ([("k", "v?")], "InvalidTag"),
        ([("aws:k", "v")], "InvalidTag"),
        ([("AWS:k", "v")], None),
        ([("ü + - = . _ : / @", "ü + - = . _ : / @")], None),
        ([(f"k{number}", "") for number in range(10)], None),
        ([(f"k{number}", "") for number in range(11)], "BadRequest"),
    ],
    ids=range(9),
)
def test_an_object_takes_tags_within_their_limits(tags, code, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="a")
    tag_set = [{"Key": name, "Value": value} for name, value in tags]
    arguments = {"Bucket": bucket, "Key": "a", "Tagging": {"TagSet": tag_set}}
    if code is None:
        s3_client.put_object_tagging(**arguments)
        assert s3_client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == tag_set
    else:
        assert refusal(s3_client.put_object_tagging, **arguments) == (400, code)
        assert s3_client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == []


@pytest.mark.parametrize("header", ["a=1&a=2", "a=1,b=2", "a=b=c", "a=%FF", "a=%3F"])
def test_a_malformed_tagging_header_is_refused_before_anything_is_stored(header, s3_client, bucket, stored):
    assert refusal(s3_client.put_object, Bucket=bucket, Key="a", Tagging=header) == (400, "InvalidArgument")
    assert stored() == []


def test_an_empty_origin_matches_no_page(requests, s3_client, bucket):
    rule = {"AllowedOrigins": [""], "AllowedMethods": ["GET"]}
    s3_client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    response = httpx.options(requests.url(), headers=headers)
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"AllowedMethods": ["GET"], "AllowedOrigins": ["*.*"]}, "InvalidRequest"),
        ({"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "AllowedHeaders": ["x-*-*"]}, "InvalidRequest"),
        ({"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "ExposeHeaders": ["*"]}, "InvalidRequest"),
        ({"AllowedMethods": ["get"], "AllowedOrigins": ["*"]}, "InvalidRequest"),
        ({"AllowedMethods": ["GET"], "AllowedOrigins": []}, "MalformedXML"),
        ({"AllowedMethods": [], "AllowedOrigins": ["*"]}, "MalformedXML"),
    ],
)
def test_a_malformed_cors_rule_is_refused_and_changes_nothing(rule, code, s3_client, bucket):
    before = s3_client.get_bucket_cors(Bucket=bucket)["CORSRules"]
    put = s3_client.put_bucket_cors
    assert refusal(put, Bucket=bucket, CORSConfiguration={"CORSRules": [rule]}) == (400, code)
    assert s3_client.get_bucket_cors(Bucket=bucket)["CORSRules"] == before


def test_cors_outlives_a_restart(tmp_path):
    rule = {"AllowedMethods": ["GET"], "AllowedOrigins": ["", "https://a.example"]}
    for start in range(2):
        with start_embedded_s3(data_dir=tmp_path, buckets=["kept"]) as s3:
            client = boto3.client(
                "s3",
                endpoint_url=s3.endpoint_url,
                aws_access_key_id=s3.access_key,
                aws_secret_access_key=s3.secret_key,
                region_name=s3.region,
            )
            if start == 0:
                client.put_bucket_cors(Bucket="kept", CORSConfiguration={"CORSRules": [rule]})
            assert client.get_bucket_cors(Bucket="kept")["CORSRules"] == [rule]


def test_a_version_id_shows_that_s3_gave_it_out():
    ids = {new_version_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(version_id) == 32 and is_version_id(version_id) for version_id in ids)
    assert not any(is_version_id(text) for text in ("", "x" * 32, "null", "é" * 32, "a" * 31))


@pytest.mark.parametrize("version_id", ["x" * 32, "abc", "a/b"])
def test_no_version_can_be_named_that_s3_did_not_give_out(version_id, s3_client, make_bucket):
    bucket = make_bucket(versioned=True)
    s3_client.put_object(Bucket=bucket, Key="a")
    named = {"Bucket": bucket, "Key": "a", "VersionId": version_id}
    for call in (s3_client.get_object, s3_client.delete_object, s3_client.get_object_tagging):
        assert refusal(call, **named) == (400, "InvalidArgument")
