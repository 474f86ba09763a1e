"""Complete, watch, cancel: the verbs of an upload token, each for the one media of the token."""

from uuid import UUID

from broker.domain.media import Media
from broker.lifecycle.requests import Playback
from broker.lifecycle.verbs import DEFAULT_PLAYBACK_SECONDS, Lifecycle


class TokenVerbs:
    """Carry out the verbs of upload tokens.

    Once the media is ready, a token can only see that it is; so a lost answer can be asked for again. A link is part of
    the answer only if the issuer allowed it.
    """

    def __init__(self, verbs: Lifecycle) -> None:
        self._verbs = verbs

    async def complete(self, media_id: UUID) -> Playback | Media:
        """Complete the upload, as its owner would. Raises what `Lifecycle.complete` does."""
        media = await self._verbs.confirm(media_id, None)
        return await self._shown(media, DEFAULT_PLAYBACK_SECONDS, download=False)

    async def watch(self, media_id: UUID, *, expires_in: int, download: bool) -> Playback | Media:
        """Return the ready media. Raises MediaNotFound, and NotReady with the state of another one."""
        return await self._shown(await self._verbs.ready(media_id, None), expires_in, download=download)

    async def cancel(self, media_id: UUID) -> None:
        """Delete a media that is not ready. Raises MediaNotFound, and PermissionMissing for a ready one."""
        await self._verbs.delete(media_id, None, unless_ready=True)

    async def _shown(self, media: Media, seconds: int, *, download: bool) -> Playback | Media:
        return await self._verbs.link(media, seconds, download=download) if media.allow_link else media
