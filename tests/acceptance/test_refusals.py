"""Invalid uploads: S3 refuses each and stores nothing."""

import pytest

from tests.acceptance.forms import Upload, xml
from tests.acceptance.refusals import REFUSALS, Refusal

each_refusal = pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)


@each_refusal
def test_an_invalid_upload_stores_nothing(upload: Upload, refusal: Refusal) -> None:
    answer = refusal.send(upload)
    assert answer.is_client_error
    assert upload.s3.keys(upload.prefix) == []


@each_refusal
def test_an_invalid_upload_is_answered_as_by_aws(upload: Upload, refusal: Refusal) -> None:
    answer = refusal.send(upload)
    assert answer.status_code == refusal.status
    assert xml(answer).findtext("Code") in refusal.codes
