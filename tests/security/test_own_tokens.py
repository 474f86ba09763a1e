"""The broker's own tokens, without an application: upload tokens and the state of plain forms, of each release."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from itsdangerous import URLSafeSerializer

from broker.api.auth.caller import Caller
from broker.api.auth.form_states import FormStates
from broker.api.auth.upload_tokens import UploadTokens
from broker.errors import MediaNotFound, NotAuthenticated

SECRET = "a secret"
MEDIA_ID = UUID("01980f2c-6b1e-7c3a-9d52-0f6a4f1be7a3")
POLICY_ENDS = datetime(2026, 1, 31, 12, tzinfo=UTC)
TOKEN_ENDS = POLICY_ENDS + timedelta(days=1)
ISSUED_TOKEN = (
    "s3mu_WyIwMTk4MGYyYzZiMWU3YzNhOWQ1MjBmNmE0ZjFiZTdhMyIsMTc2OTk0NzIwMF0.aJVpxqeYLswuwRoE4tj1fWOhfPdelO7C2E7jIcuOWnk"
)
ISSUED_STATE = "IjAxOTgwZjJjNmIxZTdjM2E5ZDUyMGY2YTRmMWJlN2EzIg.uZ6qOCg_D3TFydSZWzTVYn3jW3c"
"""A token and a state as replicas of other releases issue them: valid while replicas are replaced, so never changed."""


def tokens(now: datetime = POLICY_ENDS) -> UploadTokens:
    return UploadTokens(SECRET, lambda: now)


def refusal_of(token: str, now: datetime = POLICY_ENDS) -> dict[str, Any]:
    with pytest.raises(NotAuthenticated) as refused:
        tokens(now).caller(token)
    return refused.value.facts


def test_a_token_is_the_same_in_each_release() -> None:
    assert tokens().make(MEDIA_ID, POLICY_ENDS) == ISSUED_TOKEN
    assert tokens().caller(ISSUED_TOKEN) == Caller(f"upload {MEDIA_ID.hex}", frozenset(), MEDIA_ID)


def test_a_token_ends_a_day_after_its_policies() -> None:
    assert tokens(TOKEN_ENDS - timedelta(microseconds=1)).caller(ISSUED_TOKEN).upload == MEDIA_ID
    assert refusal_of(ISSUED_TOKEN, TOKEN_ENDS) == {"reason": "it has expired", "token_sent": True}


@pytest.mark.parametrize(
    "token",
    [
        "s3mu_",
        ISSUED_TOKEN[:-1],
        f"s3mu_{ISSUED_STATE}",
        "s3mu_" + str(URLSafeSerializer(SECRET).dumps([MEDIA_ID.hex, 2**40])),
    ],
    ids=["none", "cut off", "a form's state", "of another salt"],
)
def test_another_token_is_refused(token: str) -> None:
    assert refusal_of(token) == {"reason": "the token is not valid", "token_sent": True}


def test_the_state_of_a_form_is_the_same_in_each_release() -> None:
    states = FormStates(SECRET)
    assert states.make(MEDIA_ID) == ISSUED_STATE
    states.check(MEDIA_ID, ISSUED_STATE)


@pytest.mark.parametrize(
    ("secret", "media_id", "state"),
    [
        (SECRET, uuid4(), ISSUED_STATE),
        ("another secret", MEDIA_ID, ISSUED_STATE),
        (SECRET, MEDIA_ID, ISSUED_STATE + "x"),
        (SECRET, MEDIA_ID, str(URLSafeSerializer(SECRET).dumps(MEDIA_ID.hex))),
    ],
    ids=["another media", "another secret", "longer", "of another salt"],
)
def test_another_state_is_not_found(secret: str, media_id: UUID, state: str) -> None:
    with pytest.raises(MediaNotFound):
        FormStates(secret).check(media_id, state)
