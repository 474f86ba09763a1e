"""What the broker relies on once an object is there: looking at it, copying it, playing it, removing it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from broker.domain.sigv4 import Address, presign_get
from tests.acceptance.forms import VIDEO, Upload


@pytest.fixture
def uploaded(upload: Upload) -> Upload:
    """Return an upload whose object is there."""
    assert upload.send(upload.form()).status_code == 201
    return upload


# Copy: from what a policy can name to what no policy names.


def test_a_copy_keeps_what_was_judged(uploaded: Upload) -> None:
    s3, target = uploaded.s3, f"{uploaded.prefix}final.mp4"
    judged = s3.head(uploaded.key)
    assert judged is not None
    s3.client.copy_object(Bucket=s3.bucket, Key=target, CopySource=_source(uploaded), CopySourceIfMatch=judged["ETag"])
    final = s3.head(target)
    assert final is not None
    for kept in ("ETag", "ContentLength", "ContentType"):
        assert final[kept] == judged[kept]


def test_a_copy_of_another_version_than_the_judged_one_is_refused(uploaded: Upload) -> None:
    s3, target = uploaded.s3, f"{uploaded.prefix}final.mp4"
    error = _refusal(
        lambda: s3.client.copy_object(
            Bucket=s3.bucket, Key=target, CopySource=_source(uploaded), CopySourceIfMatch='"judged"'
        )
    )
    assert error == (412, "PreconditionFailed")
    assert s3.head(target) is None


def test_a_copy_does_not_replace_what_is_there(uploaded: Upload) -> None:
    s3, target = uploaded.s3, f"{uploaded.prefix}final.mp4"
    s3.client.put_object(Bucket=s3.bucket, Key=target, Body=b"there already")
    error = _refusal(
        lambda: s3.client.copy_object(Bucket=s3.bucket, Key=target, CopySource=_source(uploaded), IfNoneMatch="*")
    )
    assert error == (412, "PreconditionFailed")
    head = s3.head(target)
    assert head is not None
    assert head["ContentLength"] == len(b"there already")


def test_a_copy_of_nothing_is_refused(upload: Upload) -> None:
    error = _refusal(
        lambda: upload.s3.client.copy_object(
            Bucket=upload.s3.bucket, Key=f"{upload.prefix}final.mp4", CopySource=_source(upload)
        )
    )
    assert error == (404, "NoSuchKey")


# Removal.


def test_what_was_removed_is_gone_and_may_be_removed_again(uploaded: Upload) -> None:
    s3 = uploaded.s3
    for _ in range(2):
        s3.client.delete_object(Bucket=s3.bucket, Key=uploaded.key)
        assert s3.head(uploaded.key) is None


# Playback.


def test_a_signed_link_plays(uploaded: Upload) -> None:
    answer = uploaded.s3.http.get(_link(uploaded))
    assert (answer.status_code, answer.content) == (200, VIDEO)
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-0", 0, 0), ("100-199", 100, 199), ("4000-", 4000, len(VIDEO) - 1), ("-7", len(VIDEO) - 7, len(VIDEO) - 1)],
)
def test_a_player_can_seek(uploaded: Upload, asked: str, first: int, last: int) -> None:
    answer = uploaded.s3.http.get(_link(uploaded), headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.content) == (206, VIDEO[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(VIDEO)}"


def test_a_range_beyond_the_end_is_refused(uploaded: Upload) -> None:
    answer = uploaded.s3.http.get(_link(uploaded), headers={"Range": f"bytes={len(VIDEO)}-"})
    assert answer.status_code == 416


def test_a_player_need_not_load_again_what_it_has(uploaded: Upload) -> None:
    etag = uploaded.s3.http.get(_link(uploaded)).headers["ETag"]
    assert uploaded.s3.http.get(_link(uploaded), headers={"If-None-Match": etag}).status_code == 304


def test_a_link_can_say_how_to_save_it(uploaded: Upload) -> None:
    disposition = "attachment; filename=\"film.mp4\"; filename*=UTF-8''%E6%98%A0%E7%94%BB.mp4"
    answer = uploaded.s3.http.get(_link(uploaded, overrides={"response-content-disposition": disposition}))
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"] == disposition


def test_a_link_ends(uploaded: Upload) -> None:
    answer = uploaded.s3.http.get(_link(uploaded, signed_ago=timedelta(minutes=5), expires_in=299))
    assert answer.status_code == 403
    assert b"<Code>AccessDenied</Code>" in answer.content


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Amz-Expires", "86400"),
        ("X-Amz-Date", f"{datetime.now(UTC) - timedelta(minutes=1):%Y%m%dT%H%M%SZ}"),
        ("X-Amz-Signature", "0" * 64),
        ("response-content-type", "text%2Fhtml"),
    ],
    ids=["lifetime", "date", "signature", "type"],
)
def test_an_altered_link_does_not_play(uploaded: Upload, name: str, value: str) -> None:
    link = _link(uploaded, overrides={"response-content-type": "video/mp4"})
    [kept] = [part for part in urlsplit(link).query.split("&") if part.startswith(f"{name}=")]
    answer = uploaded.s3.http.get(link.replace(kept, f"{name}={value}"))
    assert answer.status_code == 403
    assert b"<Code>SignatureDoesNotMatch</Code>" in answer.content


def test_a_link_plays_its_own_object_alone(uploaded: Upload) -> None:
    s3, other = uploaded.s3, f"{uploaded.prefix}other.mp4"
    s3.client.put_object(Bucket=s3.bucket, Key=other, Body=VIDEO)
    assert uploaded.s3.http.get(_link(uploaded).replace(uploaded.key, other)).status_code == 403


def test_an_unsigned_link_does_not_play(uploaded: Upload) -> None:
    assert uploaded.s3.http.get(_link(uploaded).partition("?")[0]).status_code == 403


def _link(
    upload: Upload,
    *,
    signed_ago: timedelta = timedelta(0),
    expires_in: int = 900,
    overrides: dict[str, str] | None = None,
) -> str:
    """Return a link as the broker signs them."""
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
    """Return the status and the code with which S3 refuses a request, or None where it does as it is told."""
    try:
        request()
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return None
