"""Features that the embedded S3 does not have: each request for one is refused, and nothing is stored."""

import httpx
import pytest

from tests.s3.forms import element, error_code

KEY = "x-amz-server-side-encryption-customer-"


@pytest.mark.parametrize(
    "headers",
    [
        {f"{KEY}algorithm": "AES256"},
        {f"{KEY}key": "a2V5"},
        {f"{KEY}key-md5": "bWQ1"},
        {f"x-amz-copy-source-{KEY.removeprefix('x-amz-')}algorithm": "AES256"},
        {"x-amz-write-offset-bytes": "1"},
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE"])
def test_a_header_of_an_absent_feature_is_not_implemented(method, headers, requests, stored):
    response = requests.send(method, "a", headers)
    assert response.status_code == 501
    if method != "HEAD":
        assert error_code(response) == "NotImplemented"
        assert element(response, "Header") == next(iter(headers))
    assert stored() == []


def test_a_multipart_upload_with_a_customers_key_is_not_implemented(requests):
    url = requests.url() + "?uploads"
    headers = requests.signed_headers("POST", url, {f"{KEY}algorithm": "AES256"})
    assert httpx.post(url, headers=headers).status_code == 501


def test_a_presigned_url_with_a_customers_key_is_not_implemented(requests, stored):
    url = requests.presign(method="PUT", query=f"?{KEY}algorithm=AES256")
    assert httpx.put(url).status_code == 501
    assert stored() == []


@pytest.mark.parametrize("name", ["mode", "retain-until-date", "legal-hold"])
def test_an_object_cannot_be_locked(name, requests, stored):
    response = requests.send("PUT", "a", {f"x-amz-object-lock-{name}": "ON"})
    assert (response.status_code, error_code(response)) == (400, "InvalidRequest")
    assert stored() == []


def bucket_request(requests, method, query="", headers=None, body=b"", bucket=None):
    url = f"{requests.s3.endpoint_url}/{bucket or requests.bucket}{query}"
    return httpx.request(
        method, url, headers=requests.signed_headers(method, url, headers, body), content=body, timeout=30
    )


def test_a_bucket_with_object_lock_is_not_implemented(requests):
    headers = {"x-amz-bucket-object-lock-enabled": "true"}
    response = bucket_request(requests, "PUT", headers=headers, bucket="locked-bucket-1")
    assert (response.status_code, error_code(response)) == (501, "NotImplemented")
    assert bucket_request(requests, "HEAD", bucket="locked-bucket-1").status_code == 404


@pytest.mark.parametrize(
    "name",
    ["accelerate", "analytics", "inventory", "logging", "metrics", "object-lock", "replication", "requestPayment"],
)
def test_a_configuration_that_nothing_carries_out_is_not_implemented(name, requests):
    response = bucket_request(requests, "PUT", f"?{name}", body=b"<Anything/>")
    assert (response.status_code, error_code(response)) == (501, "NotImplemented")


@pytest.mark.parametrize("name", ["TopicConfiguration", "CloudFunctionConfiguration", "EventBridgeConfiguration"])
def test_a_notification_to_anything_but_a_queue_is_not_implemented(name, requests):
    body = f"<NotificationConfiguration><{name}/></NotificationConfiguration>".encode()
    response = bucket_request(requests, "PUT", "?notification", body=body)
    assert (response.status_code, error_code(response)) == (501, "NotImplemented")


def test_deleting_with_mfa_is_not_implemented(requests):
    body = b"<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete></VersioningConfiguration>"
    assert bucket_request(requests, "PUT", "?versioning", body=body).status_code == 501


@pytest.mark.parametrize("item", ["<Size>1</Size>", "<LastModifiedTime>2020</LastModifiedTime>"])
def test_a_condition_of_a_directory_bucket_is_not_implemented_in_a_list_of_deletes(item, requests, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="a")
    body = f"<Delete><Object><Key>a</Key>{item}</Object></Delete>".encode()
    headers = {"x-amz-checksum-crc32": s3_client.put_object(Bucket=bucket, Key="b", Body=body)["ChecksumCRC32"]}
    response = bucket_request(requests, "POST", "?delete", headers, body)
    assert "<Code>NotImplemented</Code>" in response.text
    assert s3_client.head_object(Bucket=bucket, Key="a")["ContentLength"] == 0


def test_an_acl_in_a_bucket_without_acls_is_refused(requests):
    response = bucket_request(requests, "PUT", "?acl", {"x-amz-acl": "public-read"})
    assert (response.status_code, error_code(response)) == (400, "AccessControlListNotSupported")
    created = bucket_request(requests, "PUT", headers={"x-amz-acl": "public-read"}, bucket="public-bucket-1")
    assert (created.status_code, error_code(created)) == (400, "InvalidBucketAclWithObjectOwnership")


def test_an_object_in_an_archive_cannot_be_copied(requests, stored):
    requests.send("PUT", "a", {"x-amz-storage-class": "GLACIER"})
    response = requests.send("PUT", "b", {"x-amz-copy-source": f"{requests.bucket}/a"})
    assert (response.status_code, error_code(response)) == (403, "InvalidObjectState")
    assert stored() == ["a"]


def test_a_parameter_that_s3_does_not_know_lists_the_objects_as_without_it(requests):
    requests.send("PUT", "a")
    assert "<Key>a</Key>" in bucket_request(requests, "GET", "?unknown=1").text
