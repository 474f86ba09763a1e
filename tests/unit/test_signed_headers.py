"""Header signatures: the same fields as botocore computes, byte for byte."""

from datetime import datetime
from unittest.mock import patch
from urllib.parse import quote

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.s3.sigv4 import Address, Credentials, query_string, signed_headers
from tests.support import botocore_judge as judge
from tests.support.botocore_judge import Place

header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
headers = st.dictionaries(
    st.sampled_from(
        ["content-type", "content-md5", "if-none-match", "x-amz-copy-source", "x-amz-checksum-mode", "x-amz-meta-a"]
    ),
    header_values,
)
queries = st.dictionaries(st.text(judge.encodable, min_size=1, max_size=10), st.text(judge.encodable, max_size=20))
requests = st.tuples(
    st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE"]), headers, queries, st.binary(max_size=99)
)


@settings(max_examples=judge.CASES, deadline=None)
@given(
    place=judge.places,
    credentials=judge.credentials,
    key=st.just("") | judge.object_keys,
    now=judge.instants,
    request=requests,
)
def test_the_fields_of_a_request_equal_those_of_botocore(
    place: Place,
    credentials: Credentials,
    key: str,
    now: datetime,
    request: tuple[str, dict[str, str], dict[str, str], bytes],
) -> None:
    method, fields, query, body = request
    address = Address.of(place.url)
    url = address.url + quote(key, safe="/~") + (f"?{query_string(query)}" if query else "")
    expected = AWSRequest(method=method, url=url, headers=dict(fields), data=body)
    keys = ReadOnlyCredentials(credentials.access_key, credentials.secret_key, credentials.session_token)
    with patch.object(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: now.replace(tzinfo=None)):
        botocore.auth.S3SigV4Auth(keys, "s3", place.region).add_auth(expected)

    sent = signed_headers(
        credentials, address, method, key, now=now, region=place.region, query=query, headers=fields, body=body
    )

    assert {name: value for name, value in sent.items() if name not in fields} == {
        name.lower(): value for name, value in expected.headers.items() if name.lower() not in fields
    }
