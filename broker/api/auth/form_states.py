"""The signed state by which S3 sends a plain form back to us."""

from uuid import UUID

from itsdangerous import BadSignature, URLSafeSerializer

from broker.errors import MediaNotFound


class FormStates:
    """Make and read the state in `/{media_id}/uploaded/{state}`; its key is derived, so no token can be made of it."""

    def __init__(self, secret: str) -> None:
        self._serializer = URLSafeSerializer(secret, salt="s3-media/uploaded")

    def make(self, media_id: UUID) -> str:
        """Return the state that stands for one media."""
        state = self._serializer.dumps(media_id.hex)
        return state if isinstance(state, str) else state.decode()

    def check(self, media_id: UUID, state: str) -> None:
        """Raise MediaNotFound unless `state` was made for this media."""
        try:
            named = self._serializer.loads(state)
        except BadSignature:
            raise MediaNotFound from None
        if named != media_id.hex:
            raise MediaNotFound
