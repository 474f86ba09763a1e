"""The life of a media over HTTP in front of each S3 server: issue, upload, completion, playback, deletion, attacks."""

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import md5, sha256
from pathlib import Path
from time import sleep
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from broker.app import PREFIX
from broker.domain.keys import final_key
from tests.acceptance.client import TYPE, Client
from tests.acceptance.forms import VIDEO, Form, replaced
from tests.acceptance.servers import PAGE_ORIGIN, S3
from tests.acceptance.serving import served_broker
from tests.support.waiting import until

OTHER_VIDEO = VIDEO[::-1]
StartBroker = Callable[..., Client]


class Clock:
    """The broker's clock, which a test can set ahead of S3's."""

    ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def etag(content: bytes) -> str:
    return md5(content, usedforsecurity=False).hexdigest()


# The ordinary course.


def test_a_video_is_issued_uploaded_completed_and_played(client: Client) -> None:
    issued = client.issue(size=len(VIDEO), filename="holiday.mp4")
    assert client.upload(issued).status_code == 201
    completed = client.complete(issued)
    assert completed.status_code == 200
    assert (
        completed.json()
        | {
            "status": "ready",
            "size": len(VIDEO),
            "content_type": TYPE,
            "etag": etag(VIDEO),
        }
        == completed.json()
    )
    assert client.s3.http.get(completed.json()["signed_url"]).content == VIDEO
    until(lambda: client.objects(issued) == {"final"})


def test_a_video_of_many_megabytes_is_copied_whole(client: Client) -> None:
    large = VIDEO * 5000
    issued = client.issue(size=len(large))
    assert client.upload(issued, large).status_code == 201
    link = client.complete(issued).json()["signed_url"]
    assert sha256(client.s3.http.get(link).content).digest() == sha256(large).digest()


def test_completing_again_returns_the_same_answer(client: Client) -> None:
    issued = client.issue()
    client.upload(issued)
    first, again = client.complete(issued), client.complete(issued)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["etag"] == again.json()["etag"] == etag(VIDEO)


def test_completing_before_the_upload_answers_409_and_may_be_retried(client: Client) -> None:
    issued = client.issue()
    early = client.complete(issued)
    assert early.status_code == 409
    assert "Retry-After" in early.headers
    client.upload(issued)
    assert client.complete(issued).status_code == 200


def test_a_plain_form_is_redirected_to_the_app(start_broker: StartBroker) -> None:
    client = start_broker(redirect_origins=(PAGE_ORIGIN,))
    issued = client.issue(redirect_url=f"{PAGE_ORIGIN}/videos?tab=mine")
    redirect = client.upload(issued)
    assert redirect.status_code == 303
    answer = client.http.get(redirect.headers["Location"], follow_redirects=False)
    assert answer.status_code == 303
    app = urlsplit(answer.headers["Location"])
    assert f"{app.scheme}://{app.netloc}{app.path}" == f"{PAGE_ORIGIN}/videos"
    assert parse_qs(app.query) == {"tab": ["mine"], "media_id": [issued["media_id"]], "status": ["ready"]}


def test_the_sweep_completes_an_upload_that_no_client_completed(start_broker: StartBroker) -> None:
    clock = Clock()
    client = start_broker(clock=clock, sweep=True, sweep_seconds=0.1)
    issued = client.issue()
    assert client.upload(issued).status_code == 201
    clock.ahead = timedelta(hours=1)
    until(lambda: client.playback(issued).status_code == 200)


def test_the_bucket_is_reported_as_healthy(client: Client) -> None:
    answer = client.http.get(f"{PREFIX}/health/s3")
    assert (answer.status_code, answer.json()["status"], answer.json()["bucket"]) == (200, "healthy", client.s3.bucket)


# Uploads that S3 refuses leave the media pending.


@pytest.mark.parametrize(
    ("content", "change"),
    [
        pytest.param(VIDEO + b"!", lambda form: form, id="one byte too many"),
        pytest.param(VIDEO[:-1], lambda form: form, id="one byte too few"),
        pytest.param(VIDEO, lambda form: replaced(form, "Content-Type", "text/html"), id="another type"),
        pytest.param(VIDEO, lambda form: replaced(form, "key", "media/mine.mp4"), id="another key"),
        pytest.param(VIDEO, lambda form: [("acl", "public-read"), *form], id="another field"),
    ],
)
def test_an_upload_that_differs_from_its_policy_is_refused(
    client: Client, content: bytes, change: Callable[[Form], Form]
) -> None:
    issued = client.issue(size=len(VIDEO))
    assert client.upload(issued, content, change).is_client_error
    assert client.objects(issued) == set()
    assert client.complete(issued).status_code == 409


def test_the_policy_does_not_allow_the_final_key(client: Client) -> None:
    issued = client.issue()
    key = final_key(UUID(issued["media_id"]), TYPE, 1)
    assert client.upload(issued, change=lambda form: replaced(form, "key", key)).status_code == 403
    assert client.objects(issued) == set()


def test_an_upload_after_its_policy_expired_is_refused_and_the_media_expires(start_broker: StartBroker) -> None:
    client = start_broker(policy_seconds=1, grace_seconds=0, sweep=True, sweep_seconds=0.1)
    issued = client.issue()
    sleep(2.1)
    assert client.upload(issued).status_code == 403
    until(lambda: client.complete(issued).status_code == 410)
    assert client.objects(issued) == set()


def test_a_video_with_its_declared_checksum_is_accepted(client: Client) -> None:
    issued = client.issue(checksum_sha256=b64encode(sha256(VIDEO).digest()).decode())
    assert client.upload(issued).status_code == 201
    assert client.complete(issued).status_code == 200


def test_a_video_with_another_checksum_is_refused(client: Client) -> None:
    issued = client.issue(checksum_sha256=b64encode(sha256(VIDEO).digest()).decode())
    client.upload(issued, OTHER_VIDEO)
    assert client.complete(issued).status_code in {409, 422}
    assert client.playback(issued).status_code == 409
    until(lambda: client.objects(issued) == set())


# A policy can be used again until it expires.


def test_an_object_that_is_overwritten_during_completion_is_judged_again(
    start_broker: StartBroker, before_promotion: list[Callable[[], object]]
) -> None:
    client = start_broker()
    issued = client.issue(size=len(VIDEO))
    client.upload(issued)
    before_promotion.append(partial(client.upload, issued, OTHER_VIDEO))
    completed = client.complete(issued)
    assert completed.status_code == 200
    assert completed.json()["etag"] == etag(OTHER_VIDEO)
    assert client.s3.http.get(completed.json()["signed_url"]).content == OTHER_VIDEO
    assert before_promotion == []


def test_an_object_that_is_overwritten_each_time_is_rejected(
    start_broker: StartBroker, before_promotion: list[Callable[[], object]]
) -> None:
    client = start_broker()
    issued = client.issue(size=len(VIDEO))
    client.upload(issued)
    before_promotion += [partial(client.upload, issued, content) for content in (OTHER_VIDEO, VIDEO, OTHER_VIDEO)]
    assert client.complete(issued).status_code == 422
    assert client.playback(issued).status_code == 409
    until(lambda: client.objects(issued) == set())


def test_a_replayed_upload_does_not_change_a_ready_media(client: Client) -> None:
    issued = client.issue(size=len(VIDEO))
    client.upload(issued)
    link = client.complete(issued).json()["signed_url"]
    assert client.upload(issued, OTHER_VIDEO).status_code == 201
    assert client.complete(issued).json()["etag"] == etag(VIDEO)
    assert client.s3.http.get(link).content == VIDEO


def test_the_sweep_removes_a_replayed_upload_once_the_policy_has_expired(start_broker: StartBroker) -> None:
    clock = Clock()
    client = start_broker(clock=clock, sweep=True, sweep_seconds=0.1)
    issued = client.issue()
    client.upload(issued)
    assert client.delete(issued).status_code == 200
    assert client.upload(issued).status_code == 201
    assert client.objects(issued) == {"staging"}
    clock.ahead = timedelta(hours=1)
    until(lambda: client.objects(issued) == set())


# Playback.


def test_a_player_reads_a_range_of_the_video(client: Client) -> None:
    issued = client.issue()
    client.upload(issued)
    link = client.complete(issued).json()["signed_url"]
    answer = client.s3.http.get(link, headers={"Range": "bytes=16-31"})
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (206, VIDEO[16:32], TYPE)


def test_a_download_has_the_filename_of_the_upload(client: Client) -> None:
    issued = client.issue(filename='été "2026" 映画.mp4')
    client.upload(issued)
    client.complete(issued)
    answer = client.s3.http.get(client.playback(issued, download=True).json()["signed_url"])
    assert answer.content == VIDEO
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    assert answer.headers["Content-Disposition"].endswith(
        "filename*=UTF-8''%C3%A9t%C3%A9%20_2026_%20%E6%98%A0%E7%94%BB.mp4"
    )


def test_a_link_expires_as_announced(client: Client) -> None:
    issued = client.issue()
    client.upload(issued)
    client.complete(issued)
    link = client.playback(issued, expires_in=2).json()["signed_url"]
    assert client.s3.http.get(link).status_code == 200
    sleep(3)
    assert client.s3.http.get(link).status_code == 403


def test_an_upload_has_no_link_before_it_is_completed(client: Client) -> None:
    issued = client.issue()
    client.upload(issued)
    assert client.playback(issued).status_code == 409


# Deletion.


def test_a_deleted_media_is_gone(client: Client) -> None:
    issued = client.issue()
    client.upload(issued)
    link = client.complete(issued).json()["signed_url"]
    assert client.delete(issued).status_code == 200
    assert client.objects(issued) == set()
    assert client.s3.http.get(link).status_code == 404
    for request in (client.playback, client.complete, client.delete):
        assert request(issued).status_code == 404


def test_a_media_deleted_before_completion_is_gone(client: Client) -> None:
    issued = client.issue()
    client.upload(issued)
    assert client.delete(issued).status_code == 200
    assert client.objects(issued) == set()


def test_deletion_removes_all_versions_from_a_bucket_with_versioning(versioned_s3: S3, tmp_path: Path) -> None:
    with served_broker(versioned_s3, tmp_path) as http:
        client = Client(http, versioned_s3)
        issued = client.issue()
        for content in (VIDEO, OTHER_VIDEO):
            assert client.upload(issued, content).status_code == 201
        assert client.complete(issued).status_code == 200
        assert client.upload(issued).status_code == 201
        assert client.delete(issued).status_code == 200
    assert client.versions(issued) == []


# Separate endpoints for the broker and its clients.


def test_signatures_are_made_for_the_public_endpoint(s3: S3, start_broker: StartBroker) -> None:
    if s3.endpoint_url is None:
        pytest.skip("AWS has one endpoint for the broker and its clients")
    client = start_broker(s3_public_endpoint_url=s3.endpoint_url.replace("127.0.0.1", "localhost"))
    issued = client.issue()
    assert urlsplit(issued["upload"]["url"]).hostname == "localhost"
    assert client.upload(issued).status_code == 201
    link = client.complete(issued).json()["signed_url"]
    assert urlsplit(link).hostname == "localhost"
    assert s3.http.get(link).content == VIDEO
    assert s3.http.get(link.replace("localhost", "127.0.0.1")).status_code == 403
