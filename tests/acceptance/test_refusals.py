"""Whatever the policy does not promise is refused, and leaves nothing behind."""

import pytest

from tests.acceptance.forms import Upload, xml
from tests.acceptance.refusals import REFUSALS, Refusal

each_refusal = pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)


@each_refusal
def test_nothing_is_stored(upload: Upload, refusal: Refusal) -> None:
    answer = refusal.send(upload)
    assert answer.is_client_error
    assert upload.s3.keys(upload.prefix) == []


@each_refusal
def test_the_answer_says_why(upload: Upload, refusal: Refusal) -> None:
    answer = refusal.send(upload)
    assert answer.status_code == refusal.status
    assert xml(answer).findtext("Code") in refusal.codes
