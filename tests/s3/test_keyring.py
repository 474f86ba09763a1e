"""The keys of the embedded S3's users."""

import re

import pytest

from broker.dev.s3 import read_keys
from broker.dev.s3.keyring import random_key


def test_a_new_key_looks_like_one_of_awss():
    keys = {random_key() for _ in range(200)}
    assert len({key_id for key_id, _ in keys}) == len({secret for _, secret in keys}) == 200
    assert all(re.fullmatch(r"AKIA[A-Z0-9]{16}", key_id) for key_id, _ in keys)
    assert all(re.fullmatch(r"[A-Za-z0-9]{40}", secret) for _, secret in keys)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", []),
        (" , ", []),
        ("AKIA1:secret/+=", [("AKIA1", "secret/+=")]),
        (" one:12345678 , two:87654321,", [("one", "12345678"), ("two", "87654321")]),
    ],
)
def test_keys_are_read(text, keys):
    assert read_keys(text) == keys


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("AKIA1", "key 1 must be ID:SECRET"),
        ("AKIA1:secret12,AKIA2", "key 2 must be ID:SECRET"),
        ("AKIA1:short", "8 to 128"),
        ("AKIA1:-hyphen-in-front", "does not begin with a hyphen"),
        ("AK/A:secret12", "key 1"),
        ("a:b:secret12", "key 1"),
        ("AKIA1:secret12,AKIA1:secret34", "AKIA1 is there twice"),
    ],
)
def test_malformed_keys_are_named(text, reason):
    with pytest.raises(ValueError, match=reason) as refusal:
        read_keys(text)
    assert "secret12" not in str(refusal.value)
