"""The terms of an upload on which the application decides, or which a backend issues on behalf of an owner."""

from broker.domain.media import NO_METADATA, Media
from broker.lifecycle.application.deciding import Deciding, IssueRequest
from broker.lifecycle.requests import Terms, UploadRequest
from broker.store import Store


async def agree(
    store: Store,
    deciding: Deciding | None,
    request: UploadRequest,
    caller: str,
    permissions: frozenset[str],
    idempotency_key: str | None,
) -> tuple[Media | None, Terms]:
    """Return the terms of an upload, and the earlier media if the caller has used its idempotency key before.

    The application is not asked again about an earlier media. A key that is used on behalf of an owner belongs to the
    caller, so that it cannot be mistaken for a key of the owner's own. Raises what `Deciding.decide` does.
    """
    owner, metadata = request.owner or caller, request.metadata or NO_METADATA
    allow_link = bool(request.allow_link)
    issuers_key, earlier = None, None
    if idempotency_key is not None:
        issuers_key = _issuers_key(caller, idempotency_key)
        earlier = await earlier_media(store, caller, idempotency_key)
    if earlier is None and deciding is not None:
        question = IssueRequest(caller=caller, permissions=permissions, owner=owner, upload=request)
        accepted = await deciding.decide(question)
        owner = accepted.owner or owner
        metadata = metadata if accepted.metadata is None else dict(accepted.metadata)
        allow_link = allow_link or accepted.allow_link
    if owner == caller and request.owner is None:
        return earlier, Terms(owner, metadata, idempotency_key)
    return earlier, Terms(owner, metadata, issuers_key, issued_by=caller, allow_link=allow_link)


async def earlier_media(store: Store, caller: str, idempotency_key: str) -> Media | None:
    """Return the media that the caller has issued with this key, for itself or on behalf of an owner."""
    issuers_key = _issuers_key(caller, idempotency_key)
    return await store.find_issued(caller, own_key=idempotency_key, issuers_key=issuers_key)


def key_of_place(idempotency_key: str, place: int) -> str:
    """Return the key of one upload of a request with several, by its place in the request.

    Neither a client's key nor a caller's name holds a control character. A tab here and a line feed between caller and
    key keep apart what belongs to a place, what a caller issued for others, and what a client named.
    """
    return f"{idempotency_key}\t{place}"


def _issuers_key(caller: str, idempotency_key: str) -> str:
    return f"{caller}\n{idempotency_key}"
