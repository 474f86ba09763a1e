"""The signed state of plain forms: the last segment of the URL to which S3 redirects a browser."""

from uuid import UUID

from itsdangerous import BadSignature, URLSafeSerializer

from broker.errors import MediaNotFound


class FormStates:
    """Make and check the state in `/{media_id}/uploaded/{state}`. Its key is derived, so a state is never a token."""

    def __init__(self, secret: str) -> None:
        self._serializer = URLSafeSerializer(secret, salt="s3-media/uploaded")

    def make(self, media_id: UUID) -> str:
        """Return the state of one media."""
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
