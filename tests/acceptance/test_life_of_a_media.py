"""The broker itself, over HTTP, in front of each S3: from issue to deletion, and what an attacker may try between."""

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
from tests.acceptance.client import TYPE, Client, eventually
from tests.acceptance.forms import VIDEO, Form, replaced
from tests.acceptance.servers import PAGE_ORIGIN, S3
from tests.acceptance.serving import served_broker

OTHER_VIDEO = VIDEO[::-1]
StartBroker = Callable[..., Client]


class Clock:
    """Tell the broker a time that is ahead of S3's."""

    ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def etag(content: bytes) -> str:
    return md5(content, usedforsecurity=False).hexdigest()


# As it should be.


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
    assert eventually(lambda: client.objects(issued) == {"final"})


def test_a_video_of_many_megabytes_is_copied_whole(client: Client) -> None:
    large = VIDEO * 5000
    issued = client.issue(size=len(large))
    assert client.upload(issued, large).status_code == 201
    link = client.complete(issued).json()["signed_url"]
    assert sha256(client.s3.http.get(link).content).digest() == sha256(large).digest()


def test_completing_again_answers_what_it_answered(client: Client) -> None:
    issued = client.issue()
    client.upload(issued)
    first, again = client.complete(issued), client.complete(issued)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["etag"] == again.json()["etag"] == etag(VIDEO)


def test_completing_too_early_may_be_repeated(client: Client) -> None:
    issued = client.issue()
    early = client.complete(issued)
    assert early.status_code == 409
    assert "Retry-After" in early.headers
    client.upload(issued)
    assert client.complete(issued).status_code == 200


def test_a_plain_form_comes_back_to_the_app(start_broker: StartBroker) -> None:
    client = start_broker(redirect_origins=(PAGE_ORIGIN,))
    issued = client.issue(redirect_url=f"{PAGE_ORIGIN}/videos?tab=mine")
    sent_back = client.upload(issued)
    assert sent_back.status_code == 303
    sent_on = client.http.get(sent_back.headers["Location"], follow_redirects=False)
    assert sent_on.status_code == 303
    app = urlsplit(sent_on.headers["Location"])
    assert f"{app.scheme}://{app.netloc}{app.path}" == f"{PAGE_ORIGIN}/videos"
    assert parse_qs(app.query) == {"tab": ["mine"], "media_id": [issued["media_id"]], "status": ["ready"]}


def test_an_upload_that_nobody_announced_is_completed(start_broker: StartBroker) -> None:
    clock = Clock()
    client = start_broker(clock=clock, sweep=True, sweep_seconds=0.1)
    issued = client.issue()
    assert client.upload(issued).status_code == 201
    clock.ahead = timedelta(hours=1)
    assert eventually(lambda: client.playback(issued).status_code == 200)


def test_the_bucket_is_reported_as_healthy(client: Client) -> None:
    answer = client.http.get(f"{PREFIX}/health/s3")
    assert (answer.status_code, answer.json()["status"], answer.json()["bucket"]) == (200, "healthy", client.s3.bucket)


# What S3 refuses on the policy's word leaves the media pending, with nothing uploaded.


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
def test_what_was_not_promised_is_refused(client: Client, content: bytes, change: Callable[[Form], Form]) -> None:
    issued = client.issue(size=len(VIDEO))
    assert client.upload(issued, content, change).is_client_error
    assert client.objects(issued) == set()
    assert client.complete(issued).status_code == 409


def test_the_final_key_can_not_be_written_with_the_policy(client: Client) -> None:
    issued = client.issue()
    key = final_key(UUID(issued["media_id"]), TYPE, 1)
    assert client.upload(issued, change=lambda form: replaced(form, "key", key)).status_code == 403
    assert client.objects(issued) == set()


def test_an_upload_after_its_end_is_refused_and_expires(start_broker: StartBroker) -> None:
    client = start_broker(policy_seconds=1, grace_seconds=0, sweep=True, sweep_seconds=0.1)
    issued = client.issue()
    sleep(2.1)
    assert client.upload(issued).status_code == 403
    assert eventually(lambda: client.complete(issued).status_code == 410)
    assert client.objects(issued) == set()


def test_a_promised_checksum_lets_its_video_in(client: Client) -> None:
    issued = client.issue(checksum_sha256=b64encode(sha256(VIDEO).digest()).decode())
    assert client.upload(issued).status_code == 201
    assert client.complete(issued).status_code == 200


def test_a_promised_checksum_keeps_another_video_out(client: Client) -> None:
    issued = client.issue(checksum_sha256=b64encode(sha256(VIDEO).digest()).decode())
    client.upload(issued, OTHER_VIDEO)
    assert client.complete(issued).status_code in {409, 422}
    assert client.playback(issued).status_code == 409
    assert eventually(lambda: client.objects(issued) == set())


# Whoever holds a policy can use it again until it ends.


def test_what_is_overwritten_while_it_is_checked_is_judged_again(
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


def test_what_is_overwritten_each_time_is_rejected(
    start_broker: StartBroker, before_promotion: list[Callable[[], object]]
) -> None:
    client = start_broker()
    issued = client.issue(size=len(VIDEO))
    client.upload(issued)
    before_promotion += [partial(client.upload, issued, content) for content in (OTHER_VIDEO, VIDEO, OTHER_VIDEO)]
    assert client.complete(issued).status_code == 422
    assert client.playback(issued).status_code == 409
    assert eventually(lambda: client.objects(issued) == set())


def test_a_replay_does_not_change_what_is_played(client: Client) -> None:
    issued = client.issue(size=len(VIDEO))
    client.upload(issued)
    link = client.complete(issued).json()["signed_url"]
    assert client.upload(issued, OTHER_VIDEO).status_code == 201
    assert client.complete(issued).json()["etag"] == etag(VIDEO)
    assert client.s3.http.get(link).content == VIDEO


def test_what_a_replay_leaves_is_removed_once_the_policy_has_ended(start_broker: StartBroker) -> None:
    clock = Clock()
    client = start_broker(clock=clock, sweep=True, sweep_seconds=0.1)
    issued = client.issue()
    client.upload(issued)
    assert client.delete(issued).status_code == 200
    assert client.upload(issued).status_code == 201
    assert client.objects(issued) == {"staging"}
    clock.ahead = timedelta(hours=1)
    assert eventually(lambda: client.objects(issued) == set())


# Playback.


def test_a_player_seeks_in_what_the_link_names(client: Client) -> None:
    issued = client.issue()
    client.upload(issued)
    link = client.complete(issued).json()["signed_url"]
    answer = client.s3.http.get(link, headers={"Range": "bytes=16-31"})
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (206, VIDEO[16:32], TYPE)


def test_a_download_is_saved_under_the_name_that_its_user_gave(client: Client) -> None:
    issued = client.issue(filename='été "2026" 映画.mp4')
    client.upload(issued)
    client.complete(issued)
    answer = client.s3.http.get(client.playback(issued, download=True).json()["signed_url"])
    assert answer.content == VIDEO
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    assert answer.headers["Content-Disposition"].endswith(
        "filename*=UTF-8''%C3%A9t%C3%A9%20_2026_%20%E6%98%A0%E7%94%BB.mp4"
    )


def test_a_link_ends_when_it_was_said_to(client: Client) -> None:
    issued = client.issue()
    client.upload(issued)
    client.complete(issued)
    link = client.playback(issued, expires_in=2).json()["signed_url"]
    assert client.s3.http.get(link).status_code == 200
    sleep(3)
    assert client.s3.http.get(link).status_code == 403


def test_there_is_no_link_to_what_was_not_checked(client: Client) -> None:
    issued = client.issue()
    client.upload(issued)
    assert client.playback(issued).status_code == 409


# Deletion.


def test_what_is_deleted_is_gone(client: Client) -> None:
    issued = client.issue()
    client.upload(issued)
    link = client.complete(issued).json()["signed_url"]
    assert client.delete(issued).status_code == 200
    assert client.objects(issued) == set()
    assert client.s3.http.get(link).status_code == 404
    for ask in (client.playback, client.complete, client.delete):
        assert ask(issued).status_code == 404


def test_what_is_deleted_before_it_was_checked_is_gone_too(client: Client) -> None:
    issued = client.issue()
    client.upload(issued)
    assert client.delete(issued).status_code == 200
    assert client.objects(issued) == set()


def test_no_version_of_what_was_deleted_is_left(versioned_s3: S3, tmp_path: Path) -> None:
    with served_broker(versioned_s3, tmp_path) as http:
        client = Client(http, versioned_s3)
        issued = client.issue()
        for content in (VIDEO, OTHER_VIDEO):
            assert client.upload(issued, content).status_code == 201
        assert client.complete(issued).status_code == 200
        assert client.upload(issued).status_code == 201
        assert client.delete(issued).status_code == 200
    assert client.versions(issued) == []


# Where the broker and its clients see S3 under two names.


def test_what_is_signed_is_signed_for_the_public_name(s3: S3, start_broker: StartBroker) -> None:
    if s3.endpoint_url is None:
        pytest.skip("AWS is seen under one name")
    client = start_broker(s3_public_endpoint_url=s3.endpoint_url.replace("127.0.0.1", "localhost"))
    issued = client.issue()
    assert urlsplit(issued["upload"]["url"]).hostname == "localhost"
    assert client.upload(issued).status_code == 201
    link = client.complete(issued).json()["signed_url"]
    assert urlsplit(link).hostname == "localhost"
    assert s3.http.get(link).content == VIDEO
    assert s3.http.get(link.replace("localhost", "127.0.0.1")).status_code == 403
