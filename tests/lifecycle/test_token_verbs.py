"""The verbs of an upload token: what it does to its media, and whether it gets a link."""

from urllib.parse import parse_qs, urlsplit

import pytest

from broker.domain.media import Media, State
from broker.errors import MediaNotFound, NotReady, PermissionMissing
from broker.lifecycle.requests import Playback, UploadRequest
from broker.lifecycle.token_verbs import TokenVerbs
from broker.lifecycle.verbs import DEFAULT_PLAYBACK_SECONDS
from tests.support.world import VIDEO, World


async def uploaded(world: World, allow_link: bool | None) -> Media:
    asked = UploadRequest(content_type="video/mp4", size=len(VIDEO), owner="anna", allow_link=allow_link)
    issued = await world.verbs.issue(asked, "backend")
    assert world.post(issued).status_code == 201
    return issued.media


def query(playback: Playback | Media) -> dict[str, list[str]]:
    assert isinstance(playback, Playback)
    return parse_qs(urlsplit(playback.signed_url).query)


async def test_a_token_that_may_gets_links_of_its_media(world: World) -> None:
    verbs = TokenVerbs(world.verbs)
    media = await uploaded(world, allow_link=True)
    with pytest.raises(NotReady):
        await verbs.watch(media.id, expires_in=60, download=False)
    completed = query(await verbs.complete(media.id))
    assert completed["X-Amz-Expires"] == [str(DEFAULT_PLAYBACK_SECONDS)]
    assert "response-content-disposition" not in completed
    for download in (False, True):
        watched = query(await verbs.watch(media.id, expires_in=60, download=download))
        assert watched["X-Amz-Expires"] == ["60"]
        assert ("response-content-disposition" in watched) is download


@pytest.mark.parametrize("allow_link", [None, False])
async def test_another_token_only_sees_that_its_media_is_ready(world: World, allow_link: bool | None) -> None:
    verbs = TokenVerbs(world.verbs)
    media = await uploaded(world, allow_link)
    completed = await verbs.complete(media.id)
    assert completed == await verbs.watch(media.id, expires_in=60, download=False)
    assert completed == await world.store.get(media.id, None)
    assert await world.state(media.id) == State.READY


async def test_a_token_deletes_its_media_until_it_is_ready(world: World) -> None:
    verbs = TokenVerbs(world.verbs)
    pending, ready = (await world.issue()).media, await uploaded(world, allow_link=True)
    await verbs.complete(ready.id)
    await verbs.cancel(pending.id)
    with pytest.raises(MediaNotFound):
        await verbs.watch(pending.id, expires_in=60, download=False)
    with pytest.raises(PermissionMissing):
        await verbs.cancel(ready.id)
    assert await world.state(ready.id) == State.READY
