"""The invariants hold after any order of operations, failures of S3 and deaths of brokers.

Hypothesis generates the orders. They run in one process, over an SQLite file and the embedded S3. A death is an
exception that no code catches, raised at a numbered step of the store or the bucket.
"""

import asyncio
import os
import shutil
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from broker.aws import client
from broker.aws.bucket import BucketConfig
from broker.dev.s3 import EmbeddedS3, Fault
from broker.domain.access.quota import Quota
from broker.domain.keys import staging_key
from broker.domain.media import GONE, State
from broker.domain.rules import Rules
from broker.domain.s3.sigv4 import Credentials
from broker.errors import (
    BrokerError,
    IdempotencyKeyReused,
    MediaNotFound,
    NothingUploaded,
    PromotionRunning,
    QuotaExceeded,
    StorageUnavailable,
    UploadExpired,
    UploadRejected,
)
from broker.lifecycle import settlement
from broker.lifecycle.requests import Issued, UploadRequest
from broker.lifecycle.settlement import Settlement
from broker.lifecycle.verbs import Lifecycle
from broker.store import migrate
from broker.store.connections.address import parse_url
from broker.worker.sweep import Sweep
from tests.crash.invariants import broken, find_all, unsettled
from tests.support.dying import COURSE, OTHER, VIDEO, Clock, CountedBucket, CountedStore, Course

EXAMPLES = int(os.environ.get("BROKER_TEST_ORDERS", "30"))
STEPS = 25
POLICY_SECONDS = 900
GRACE = timedelta(seconds=60)
LONG = timedelta(hours=2)
QUOTA = Quota(pending_count=6)

FAULTS = (
    Fault("HeadObject", count=3, status=503, code="SlowDown"),
    Fault("CopyObject", count=3, status=200, code="InternalError"),
    Fault("CopyObject", count=1, reset=True, when="after"),
    Fault("CopyObject", count=3, reset=True, when="after"),
    Fault("DeleteObjects", count=3, status=503, code="SlowDown"),
    Fault("DeleteObjects", count=3, reset=True, when="after"),
    Fault("*", count=50, status=500, code="InternalError"),
)
EXPECTED = (
    NothingUploaded,
    PromotionRunning,
    UploadRejected,
    UploadExpired,
    MediaNotFound,
    StorageUnavailable,
)
ENDS: dict[type[BrokerError], State] = {UploadRejected: State.REJECTED, UploadExpired: State.EXPIRED}


class DiedError(BaseException):
    """The process counts as dead from here on."""


class Mortal(Course):
    """A course after whose death no task of it takes another step."""

    dead = False

    def reach(self, step: str) -> None:
        if self.dead:
            raise DiedError
        super().reach(step)

    def die(self) -> None:
        self.dead = True
        raise DiedError


@dataclass
class Surroundings:
    """The surroundings that all examples share."""

    directory: Path
    template: Path
    s3: EmbeddedS3
    s3_client: Any
    config: BucketConfig


class AnyOrder(RuleBasedStateMachine):
    """One owner's media on one broker, or on several in turn, because no broker keeps state in memory."""

    issues: Bundle[Issued] = Bundle("issues")

    def __init__(self, around: Surroundings) -> None:
        super().__init__()
        self.around = around
        database = around.directory / f"{os.urandom(8).hex()}.db"
        shutil.copy(around.template, database)
        self.url = f"sqlite:///{database}"
        self.engine = sa.create_engine(parse_url(self.url), poolclass=sa.NullPool)
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.store = CountedStore(self.url)
        self.bucket = CountedBucket(around.config)
        self.settlement = Settlement(self.store, self.bucket, grace=GRACE, clock=self.clock)
        self.sweep = Sweep(self.store, self.settlement, rest_seconds=1, clock=self.clock)
        self.verbs = Lifecycle(
            self.store,
            self.bucket,
            settlement=self.settlement,
            rules=Rules(max_size=2 * len(VIDEO)),
            quota=QUOTA,
            policy_seconds=POLICY_SECONDS,
            clock=self.clock,
        )
        self.told: dict[UUID, State] = {}
        self.etags: dict[UUID, str | None] = {}
        self.by_key: dict[str, UUID] = {}
        self.unwanted: set[UUID] = set()
        self.newest: Issued
        self._empty_bucket()

    # Operations.

    @rule(
        target=issues,
        size=st.sampled_from([None, len(VIDEO)]),
        key=st.sampled_from([None, None, "one", "two"]),
    )
    def issue(self, size: int | None, key: str | None) -> Any:
        asked = UploadRequest(content_type="video/mp4", size=size)
        try:
            issued: Issued = self._run(self.verbs.issue(asked, "anna", idempotency_key=key))
        except QuotaExceeded:
            pending = self._run(self.store.usage("anna")).pending_count
            # A ready media that is deleted counts as promised again while its policy is open, beyond the limit, too.
            assert pending >= (QUOTA.pending_count or 0)
            return self.newest  # each issue adds one to the bundle, since races make refusals differ from run to run
        except (IdempotencyKeyReused, UploadExpired):
            assert key in self.by_key
            return self.newest
        if key is not None:
            assert self.by_key.setdefault(key, issued.media.id) == issued.media.id
        assert bool(issued.fields) == (issued.media.state is State.PENDING)
        self.newest = issued
        return issued

    @rule(issued=issues, other=st.booleans())
    def upload(self, issued: Issued, other: bool) -> None:
        self._post(issued, OTHER if other else VIDEO)

    @rule(issued=issues)
    def lax_store_lets_something_else_in(self, issued: Issued) -> None:
        if not self._takes(issued):
            return
        self.around.s3_client.put_object(
            Bucket=self.around.config.name, Key=staging_key(issued.media.id), Body=OTHER, ContentType="text/html"
        )

    @rule(issued=issues)
    def complete(self, issued: Issued) -> None:
        self._run(self._complete(issued))

    @rule(issued=issues)
    def delete(self, issued: Issued) -> None:
        self._run(self._delete(issued))

    @rule()
    def sweep_once(self) -> None:
        self._run(self.sweep.once())

    @rule(seconds=st.sampled_from([10, 130, POLICY_SECONDS + 70, 3700]))
    def time_passes(self, seconds: float) -> None:
        self.clock.moved += timedelta(seconds=seconds)

    @rule(issued=issues, fault=st.sampled_from(FAULTS), verb=st.sampled_from(["complete", "delete", "sweep"]))
    def s3_fails(self, issued: Issued, fault: Fault, verb: str) -> None:
        self.around.s3.order_fault(replace(fault))
        try:
            self._run(self._do(verb, issued))
        finally:
            self.around.s3.clear_faults()

    @rule(
        issued=issues,
        step=st.integers(1, 9),
        verb=st.sampled_from(["complete", "complete", "delete", "sweep"]),
        overwrites=st.sampled_from([0, 0, 1]),
    )
    def broker_dies(self, issued: Issued, step: int, verb: str, overwrites: int) -> None:
        self._run(self._mortally(Mortal(step, overwrites), self._do(verb, issued)))

    @rule(issued=issues, overwrites=st.integers(1, 3))
    def another_client_overwrites_between_check_and_copy(self, issued: Issued, overwrites: int) -> None:
        self._run(self._mortally(Mortal(0, overwrites), self._complete(issued)))

    @rule(
        issued=issues,
        verbs=st.lists(st.sampled_from(["complete", "complete", "delete", "sweep", "upload"]), min_size=2, max_size=5),
    )
    def at_once(self, issued: Issued, verbs: list[str]) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(self._do(verb, issued) for verb in verbs))

        self._run(all_of_them())

    # Invariants.

    @invariant()
    def nothing_is_broken(self) -> None:
        found = find_all(self.engine, self.around.s3_client, self.around.config.name)
        assert list(broken(found)) == []
        for media_id, state in self.told.items():
            media = found.of(media_id)
            assert media is not None
            if state is State.DELETING:
                assert media.state in GONE
            elif media_id not in self.unwanted:
                assert (media.state, media.etag) == (state, self.etags.get(media_id, media.etag))

    def teardown(self) -> None:
        try:
            self.nothing_is_broken()
            self._settle()
            for media in self._find().media:
                if media.state not in GONE:
                    self._run(self.verbs.delete(media.id, None))
            self._settle()
            found = self._find()
            assert found.objects == {}
            assert {media.state for media in found.media} <= {State.DELETED}
        finally:
            self.runner.run(self.bucket.close())
            self.runner.run(self.store.close())
            self.runner.close()
            self.engine.dispose()

    def _settle(self) -> None:
        for _ in range(3):
            self.clock.moved += LONG
            while self._run(self.sweep.once()):
                pass
        assert list(unsettled(self._find(), self.clock())) == []

    def _find(self) -> Any:
        return find_all(self.engine, self.around.s3_client, self.around.config.name)

    # Implementation.

    def _run(self, verb: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(self._with_purges(verb))

    async def _with_purges(self, verb: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await verb
        finally:
            await self.settlement.purges.finish()

    async def _do(self, verb: str, issued: Issued) -> None:
        match verb:
            case "complete":
                await self._complete(issued)
            case "delete":
                await self._delete(issued)
            case "upload":
                await asyncio.to_thread(self._post, issued, OTHER)
            case _:
                try:
                    await self.sweep.once()
                except StorageUnavailable:
                    return

    async def _complete(self, issued: Issued) -> None:
        media_id = issued.media.id
        try:
            playback = await self.verbs.complete(media_id, "anna")
        except EXPECTED as error:
            if isinstance(error, MediaNotFound):
                assert media_id in self.unwanted
            if type(error) in ENDS:
                self.told.setdefault(media_id, ENDS[type(error)])
        else:
            self.told.setdefault(media_id, State.READY)
            self.etags.setdefault(media_id, playback.media.etag)

    async def _delete(self, issued: Issued) -> None:
        self.unwanted.add(issued.media.id)
        with suppress(MediaNotFound):
            await self.verbs.delete(issued.media.id, "anna")
        self.told[issued.media.id] = State.DELETING

    async def _mortally(self, course: Course, verb: Coroutine[Any, Any, None]) -> None:
        token = COURSE.set(course)
        try:
            await verb
        except DiedError:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others, return_exceptions=True)
        finally:
            COURSE.reset(token)

    def _takes(self, issued: Issued) -> bool:
        """Return whether the policy is open by the test's clock, which S3 does not follow."""
        return bool(issued.fields) and self.clock() < issued.expires_at

    def _post(self, issued: Issued, body: bytes) -> None:
        if self._takes(issued):
            answer = httpx.post(issued.url, data=issued.fields, files={"file": ("a.mp4", body)})
            assert answer.status_code == 201, answer.text

    def _empty_bucket(self) -> None:
        """Remove the objects of a failed example."""
        bucket = self.around.config.name
        for found in self.around.s3_client.list_objects_v2(Bucket=bucket).get("Contents", ()):
            self.around.s3_client.delete_objects(Bucket=bucket, Key=found["Key"])


@pytest.fixture
def around(
    tmp_path: Path, embedded_s3: EmbeddedS3, s3_client: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Surroundings:
    """Return a migrated SQLite file to copy, and one bucket; retries follow without a pause."""
    template = tmp_path / "template.db"
    migrate(f"sqlite:///{template}")
    monkeypatch.setattr(settlement, "WAITS", 3)
    monkeypatch.setattr(client, "BACKOFF_SECONDS", 0)
    config = BucketConfig(
        name=bucket,
        region=embedded_s3.region,
        endpoint_url=embedded_s3.endpoint_url,
        path_style=True,
        is_aws=False,
        credentials=Credentials(embedded_s3.access_key, embedded_s3.secret_key),
        timeout_seconds=30,
    )
    return Surroundings(tmp_path, template, embedded_s3, s3_client, config)


@pytest.mark.timeout(120 + 15 * EXAMPLES)
def test_the_invariants_hold_in_any_order(around: Surroundings) -> None:
    run_state_machine_as_test(
        lambda: AnyOrder(around),  # type: ignore[arg-type]  # it is called, and that is all
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
