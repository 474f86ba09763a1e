"""What the policy promises is stored as it was promised, and answered as browsers and libraries need it."""

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


def test_the_object_is_as_the_form_says(upload: Upload) -> None:
    assert upload.send(upload.form()).status_code == 201
    head = upload.s3.head(upload.key)
    assert head is not None
    assert (head["ContentLength"], head["ContentType"], head["ETag"]) == (len(VIDEO), "video/mp4", ETAG)


def test_the_answer_201_says_what_was_stored_and_where(upload: Upload) -> None:
    answer = upload.send(upload.form())
    said = xml(answer)
    assert said.tag == "PostResponse"
    assert said.findtext("Bucket") == upload.s3.bucket
    assert said.findtext("Key") == upload.key
    assert (said.findtext("ETag") or "").strip('"') == ETAG.strip('"')
    assert said.findtext("Location")


def test_the_answer_201_quotes_the_etag(upload: Upload) -> None:
    assert xml(upload.send(upload.form())).findtext("ETag") == ETAG


@pytest.mark.parametrize("status", [201, 204])
def test_the_answer_carries_the_etag_that_a_library_reads(upload: Upload, status: int) -> None:
    assert _upload_asking_for(upload, {"success_action_status": str(status)}).headers.get("ETag") == ETAG


def test_the_answer_carries_the_location_that_a_library_reads(upload: Upload) -> None:
    assert upload.send(upload.form()).headers.get("Location")


@pytest.mark.parametrize("asked", ["200", "204"])
def test_the_answer_has_the_status_asked_for_and_no_body(upload: Upload, asked: str) -> None:
    answer = _upload_asking_for(upload, {"success_action_status": asked})
    assert (str(answer.status_code), answer.content) == (asked, b"")


@pytest.mark.parametrize("asked", ["206", "mine"])
def test_another_status_means_204(upload: Upload, asked: str) -> None:
    assert _upload_asking_for(upload, {"success_action_status": asked}).status_code == 204


def test_a_plain_form_is_sent_on_with_what_was_stored(upload: Upload) -> None:
    answer = _upload_asking_for(upload, {"success_action_redirect": f"{PAGE_ORIGIN}/uploaded/state"})
    location = urlsplit(answer.headers["Location"])
    assert answer.status_code == 303
    assert (location.netloc, location.path) == ("app.example", "/uploaded/state")
    assert parse_qs(location.query) == {"bucket": [upload.s3.bucket], "key": [upload.key], "etag": [ETAG]}


def test_a_plain_form_is_sent_on_with_the_query_that_was_there(upload: Upload) -> None:
    answer = _upload_asking_for(upload, {"success_action_redirect": f"{PAGE_ORIGIN}/uploaded?state=a"})
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert query == {"state": ["a"], "bucket": [upload.s3.bucket], "key": [upload.key], "etag": [ETAG]}


@pytest.mark.parametrize(("least", "most"), [(len(VIDEO), len(VIDEO) + 1), (len(VIDEO) - 1, len(VIDEO))])
def test_both_bounds_are_inclusive(upload: Upload, least: int, most: int) -> None:
    form = upload.form(conditions=upload.conditions(least=least, most=most))
    assert upload.send(form).status_code == 201


def test_the_case_of_a_field_name_does_not_count(upload: Upload) -> None:
    form = [(name.upper() if name == "Content-Type" else name, value) for name, value in upload.form()]
    assert upload.send(form).status_code == 201


def test_fields_after_the_file_are_ignored(upload: Upload) -> None:
    assert upload.send([*upload.form(), ("submit", "Upload")]).status_code == 201


def test_fields_that_are_to_be_ignored_need_no_condition(upload: Upload) -> None:
    assert upload.send([("x-ignore-submit", "Upload"), *upload.form()]).status_code == 201


def test_a_promised_checksum_is_kept_and_can_be_read(upload: Upload) -> None:
    promised = b64encode(sha256(VIDEO).digest()).decode()
    field = {"x-amz-checksum-sha256": promised}
    assert upload.send(upload.form(fields=field, conditions=upload.conditions(field))).status_code == 201
    head = upload.s3.head(upload.key)
    assert head is not None
    assert head.get("ChecksumSHA256") == promised


def test_whoever_holds_a_policy_can_replace_the_object(upload: Upload) -> None:
    assert upload.send(upload.form()).status_code == 201
    replacement = [*without(upload.form(), "file"), ("file", b"another video")]
    assert upload.send(replacement).status_code == 201
    head = upload.s3.head(upload.key)
    assert head is not None
    assert head["ContentLength"] == len(b"another video")


def test_an_upload_that_breaks_off_leaves_nothing(upload: Upload) -> None:
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


def test_a_page_of_the_app_can_read_why_it_was_refused(upload: Upload) -> None:
    content_type, body = multipart(upload.form(fields={"Content-Type": "text/html"}))
    headers = {"Content-Type": content_type, "Origin": PAGE_ORIGIN}
    answer = upload.s3.http.post(upload.s3.bucket_url, headers=headers, content=body)
    assert answer.status_code == 403
    assert answer.headers.get("Access-Control-Allow-Origin") == PAGE_ORIGIN


def test_a_page_of_the_app_may_ask_first(upload: Upload) -> None:
    answer = _preflight(upload, PAGE_ORIGIN)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE_ORIGIN
    assert "post" in _names(answer, "Access-Control-Allow-Methods")


def test_a_foreign_page_may_not(upload: Upload) -> None:
    answer = _preflight(upload, "https://evil.example")
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def _upload_asking_for(upload: Upload, field: dict[str, str]) -> httpx.Response:
    """Upload with a field that says how to answer, promised by the policy, in place of the usual one."""
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
