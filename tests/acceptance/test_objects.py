"""The operations on stored objects that the broker relies on: copy, deletion and playback."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from broker.domain.s3.sigv4 import Address, presign_get
from tests.acceptance.forms import VIDEO, Upload


@pytest.fixture
def uploaded(upload: Upload) -> Upload:
    """Return an upload that has been sent."""
    assert upload.send(upload.form()).status_code == 201
    return upload


# Copy.


def test_a_copy_keeps_etag_size_and_type(uploaded: Upload) -> None:
    s3, target = uploaded.s3, f"{uploaded.prefix}final.mp4"
    judged = s3.head(uploaded.key)
    assert judged is not None
    s3.client.copy_object(Bucket=s3.bucket, Key=target, CopySource=_source(uploaded), CopySourceIfMatch=judged["ETag"])
    final = s3.head(target)
    assert final is not None
    for name in ("ETag", "ContentLength", "ContentType"):
        assert final[name] == judged[name]


def test_a_copy_of_an_object_with_another_etag_is_refused(uploaded: Upload) -> None:
    s3, target = uploaded.s3, f"{uploaded.prefix}final.mp4"
    error = _refusal(
        lambda: s3.client.copy_object(
            Bucket=s3.bucket, Key=target, CopySource=_source(uploaded), CopySourceIfMatch='"judged"'
        )
    )
    assert error == (412, "PreconditionFailed")
    assert s3.head(target) is None


def test_a_copy_with_if_none_match_does_not_replace_an_object(uploaded: Upload) -> None:
    s3, target = uploaded.s3, f"{uploaded.prefix}final.mp4"
    s3.client.put_object(Bucket=s3.bucket, Key=target, Body=b"another video")
    error = _refusal(
        lambda: s3.client.copy_object(Bucket=s3.bucket, Key=target, CopySource=_source(uploaded), IfNoneMatch="*")
    )
    assert error == (412, "PreconditionFailed")
    head = s3.head(target)
    assert head is not None
    assert head["ContentLength"] == len(b"another video")


def test_a_copy_of_an_absent_object_is_refused(upload: Upload) -> None:
    error = _refusal(
        lambda: upload.s3.client.copy_object(
            Bucket=upload.s3.bucket, Key=f"{upload.prefix}final.mp4", CopySource=_source(upload)
        )
    )
    assert error == (404, "NoSuchKey")


# Deletion.


def test_a_deleted_object_is_gone_and_may_be_deleted_again(uploaded: Upload) -> None:
    s3 = uploaded.s3
    for _ in range(2):
        s3.client.delete_object(Bucket=s3.bucket, Key=uploaded.key)
        assert s3.head(uploaded.key) is None


# Playback.


def test_a_signed_link_returns_the_video(uploaded: Upload) -> None:
    answer = uploaded.s3.http.get(_link(uploaded))
    assert (answer.status_code, answer.content) == (200, VIDEO)
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("requested", "first", "last"),
    [("0-0", 0, 0), ("100-199", 100, 199), ("4000-", 4000, len(VIDEO) - 1), ("-7", len(VIDEO) - 7, len(VIDEO) - 1)],
)
def test_a_link_answers_range_requests(uploaded: Upload, requested: str, first: int, last: int) -> None:
    answer = uploaded.s3.http.get(_link(uploaded), headers={"Range": f"bytes={requested}"})
    assert (answer.status_code, answer.content) == (206, VIDEO[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(VIDEO)}"


def test_a_range_beyond_the_end_is_refused(uploaded: Upload) -> None:
    answer = uploaded.s3.http.get(_link(uploaded), headers={"Range": f"bytes={len(VIDEO)}-"})
    assert answer.status_code == 416


def test_a_link_answers_304_for_a_cached_etag(uploaded: Upload) -> None:
    etag = uploaded.s3.http.get(_link(uploaded)).headers["ETag"]
    assert uploaded.s3.http.get(_link(uploaded), headers={"If-None-Match": etag}).status_code == 304


def test_a_link_sets_the_content_disposition(uploaded: Upload) -> None:
    disposition = "attachment; filename=\"film.mp4\"; filename*=UTF-8''%E6%98%A0%E7%94%BB.mp4"
    answer = uploaded.s3.http.get(_link(uploaded, overrides={"response-content-disposition": disposition}))
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"] == disposition


def test_an_expired_link_is_refused(uploaded: Upload) -> None:
    answer = uploaded.s3.http.get(_link(uploaded, signed_ago=timedelta(minutes=5), expires_in=299))
    assert answer.status_code == 403
    assert b"<Code>AccessDenied</Code>" in answer.content


@pytest.mark.parametrize(
    ("name", "altered"),
    [
        ("X-Amz-Expires", lambda _: "86400"),
        ("X-Amz-Date", lambda date: f"{datetime.fromisoformat(date) - timedelta(minutes=1):%Y%m%dT%H%M%SZ}"),
        ("X-Amz-Signature", lambda _: "0" * 64),
        ("response-content-type", lambda _: "text%2Fhtml"),
    ],
    ids=["lifetime", "date", "signature", "type"],
)
def test_an_altered_link_is_refused(uploaded: Upload, name: str, altered: Callable[[str], str]) -> None:
    link = _link(uploaded, overrides={"response-content-type": "video/mp4"})
    [value] = [part.partition("=")[2] for part in urlsplit(link).query.split("&") if part.startswith(f"{name}=")]
    answer = uploaded.s3.http.get(link.replace(f"{name}={value}", f"{name}={altered(value)}"))
    assert answer.status_code == 403
    assert b"<Code>SignatureDoesNotMatch</Code>" in answer.content


def test_a_link_to_one_object_does_not_read_another(uploaded: Upload) -> None:
    s3, other = uploaded.s3, f"{uploaded.prefix}other.mp4"
    s3.client.put_object(Bucket=s3.bucket, Key=other, Body=VIDEO)
    assert uploaded.s3.http.get(_link(uploaded).replace(uploaded.key, other)).status_code == 403


def test_an_unsigned_link_is_refused(uploaded: Upload) -> None:
    assert uploaded.s3.http.get(_link(uploaded).partition("?")[0]).status_code == 403


def _link(
    upload: Upload,
    *,
    signed_ago: timedelta = timedelta(0),
    expires_in: int = 900,
    overrides: dict[str, str] | None = None,
) -> str:
    """Return a link, signed as the broker signs it."""
    return presign_get(
        upload.s3.credentials,
        Address.of(upload.s3.bucket_url),
        upload.key,
        now=datetime.now(UTC) - signed_ago,
        region=upload.s3.region,
        expires_in=expires_in,
        overrides=overrides,
    )


def _source(upload: Upload) -> str:
    return f"{upload.s3.bucket}/{upload.key}"


def _refusal(request: Callable[[], object]) -> tuple[int, str] | None:
    """Return the status and the code of S3's refusal, or None if S3 carries out the request."""
    try:
        request()
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return None
