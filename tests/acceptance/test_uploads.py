"""Valid uploads: S3 stores each as its policy says, and its answers suit browsers and upload libraries."""

import socket
import ssl
from base64 import b64encode
from collections.abc import Iterable
from hashlib import md5, sha256
from time import sleep
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.acceptance.forms import VIDEO, Upload, multipart, without, xml
from tests.acceptance.servers import PAGE_ORIGIN

ETAG = f'"{md5(VIDEO, usedforsecurity=False).hexdigest()}"'


def test_an_upload_stores_the_size_and_the_type_of_the_form(upload: Upload) -> None:
    assert upload.send(upload.form()).status_code == 201
    head = upload.s3.head(upload.key)
    assert head is not None
    assert (head["ContentLength"], head["ContentType"], head["ETag"]) == (len(VIDEO), "video/mp4", ETAG)


def test_the_answer_201_names_bucket_key_etag_and_location(upload: Upload) -> None:
    answer = upload.send(upload.form())
    document = xml(answer)
    assert document.tag == "PostResponse"
    assert document.findtext("Bucket") == upload.s3.bucket
    assert document.findtext("Key") == upload.key
    assert (document.findtext("ETag") or "").strip('"') == ETAG.strip('"')
    assert document.findtext("Location")


def test_the_answer_201_quotes_the_etag(upload: Upload) -> None:
    assert xml(upload.send(upload.form())).findtext("ETag") == ETAG


@pytest.mark.parametrize("status", [201, 204])
def test_the_answer_has_an_etag_header(upload: Upload, status: int) -> None:
    assert _upload_with(upload, {"success_action_status": str(status)}).headers.get("ETag") == ETAG


def test_the_answer_has_a_location_header(upload: Upload) -> None:
    assert upload.send(upload.form()).headers.get("Location")


@pytest.mark.parametrize("status", ["200", "204"])
def test_the_answer_has_the_requested_status_and_no_body(upload: Upload, status: str) -> None:
    answer = _upload_with(upload, {"success_action_status": status})
    assert (str(answer.status_code), answer.content) == (status, b"")


@pytest.mark.parametrize("status", ["206", "mine"])
def test_an_unknown_status_means_204(upload: Upload, status: str) -> None:
    assert _upload_with(upload, {"success_action_status": status}).status_code == 204


def test_a_redirect_names_bucket_key_and_etag(upload: Upload) -> None:
    answer = _upload_with(upload, {"success_action_redirect": f"{PAGE_ORIGIN}/uploaded/state"})
    location = urlsplit(answer.headers["Location"])
    assert answer.status_code == 303
    assert (location.netloc, location.path) == ("app.example", "/uploaded/state")
    assert parse_qs(location.query) == {"bucket": [upload.s3.bucket], "key": [upload.key], "etag": [ETAG]}


def test_a_redirect_keeps_the_query_of_its_url(upload: Upload) -> None:
    answer = _upload_with(upload, {"success_action_redirect": f"{PAGE_ORIGIN}/uploaded?state=a"})
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert query == {"state": ["a"], "bucket": [upload.s3.bucket], "key": [upload.key], "etag": [ETAG]}


@pytest.mark.parametrize(("min_size", "max_size"), [(len(VIDEO), len(VIDEO) + 1), (len(VIDEO) - 1, len(VIDEO))])
def test_both_bounds_of_the_size_are_inclusive(upload: Upload, min_size: int, max_size: int) -> None:
    form = upload.form(conditions=upload.conditions(min_size=min_size, max_size=max_size))
    assert upload.send(form).status_code == 201


def test_field_names_are_compared_without_case(upload: Upload) -> None:
    form = [(name.upper() if name == "Content-Type" else name, value) for name, value in upload.form()]
    assert upload.send(form).status_code == 201


def test_fields_after_the_file_are_ignored(upload: Upload) -> None:
    assert upload.send([*upload.form(), ("submit", "Upload")]).status_code == 201


def test_a_field_named_x_ignore_needs_no_condition(upload: Upload) -> None:
    assert upload.send([("x-ignore-submit", "Upload"), *upload.form()]).status_code == 201


def test_the_checksum_of_an_upload_can_be_read(upload: Upload) -> None:
    promised = b64encode(sha256(VIDEO).digest()).decode()
    field = {"x-amz-checksum-sha256": promised}
    assert upload.send(upload.form(fields=field, conditions=upload.conditions(field))).status_code == 201
    head = upload.s3.head(upload.key)
    assert head is not None
    assert head.get("ChecksumSHA256") == promised


def test_a_second_upload_with_the_same_policy_replaces_the_object(upload: Upload) -> None:
    assert upload.send(upload.form()).status_code == 201
    replacement = [*without(upload.form(), "file"), ("file", b"another video")]
    assert upload.send(replacement).status_code == 201
    head = upload.s3.head(upload.key)
    assert head is not None
    assert head["ContentLength"] == len(b"another video")


def test_an_interrupted_upload_stores_nothing(upload: Upload) -> None:
    content_type, body = multipart(upload.form(content=bytes(900_000)))
    url = httpx.URL(upload.s3.bucket_url)
    request = (
        f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection((url.host, url.port or 443))
    if url.scheme == "https":
        connection = ssl.create_default_context().wrap_socket(connection, server_hostname=url.host)
    with connection:
        connection.sendall(request.encode() + body[: len(body) // 2])
    sleep(1)
    assert upload.s3.keys(upload.prefix) == []


def test_a_page_of_the_app_may_upload_and_read_the_etag(upload: Upload) -> None:
    content_type, body = multipart(upload.form())
    headers = {"Content-Type": content_type, "Origin": PAGE_ORIGIN}
    answer = upload.s3.http.post(upload.s3.bucket_url, headers=headers, content=body)
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE_ORIGIN
    assert _names(answer, "Access-Control-Expose-Headers") >= {"etag", "location"}


def test_a_page_of_the_app_can_read_a_refusal(upload: Upload) -> None:
    content_type, body = multipart(upload.form(fields={"Content-Type": "text/html"}))
    headers = {"Content-Type": content_type, "Origin": PAGE_ORIGIN}
    answer = upload.s3.http.post(upload.s3.bucket_url, headers=headers, content=body)
    assert answer.status_code == 403
    assert answer.headers.get("Access-Control-Allow-Origin") == PAGE_ORIGIN


def test_a_preflight_of_the_app_is_allowed(upload: Upload) -> None:
    answer = _preflight(upload, PAGE_ORIGIN)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE_ORIGIN
    assert "post" in _names(answer, "Access-Control-Allow-Methods")


def test_a_preflight_of_another_origin_is_refused(upload: Upload) -> None:
    answer = _preflight(upload, "https://another.example")
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def _upload_with(upload: Upload, field: dict[str, str]) -> httpx.Response:
    """Upload with this field and its condition instead of `success_action_status`."""
    conditions = [c for c in upload.conditions() if c != {"success_action_status": "201"}]
    fields: dict[str, str | None] = {"success_action_status": None, **field}
    return upload.send(upload.form(fields=fields, conditions=[*conditions, field]))


def _preflight(upload: Upload, origin: str) -> httpx.Response:
    return upload.s3.http.options(
        upload.s3.bucket_url, headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
    )


def _names(answer: httpx.Response, header: str) -> set[str]:
    values: Iterable[str] = answer.headers.get(header, "").split(",")
    return {value.strip().lower() for value in values}
