"""Cross-origin requests by a bucket's rules."""

import httpx
import pytest

from tests.s3.forms import error_code

PAGE, FOREIGN = "https://app.example", "https://evil.example"


def preflight(requests, origin=PAGE, method="POST", headers=None, bucket=None):
    """Ask as a browser does before it sends."""
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers is not None:
        asked["Access-Control-Request-Headers"] = headers
    url = f"{requests.s3.endpoint_url}/{bucket or requests.bucket}"
    return httpx.options(url, headers={name: value for name, value in asked.items() if value is not None})


def access_headers(response):
    """Return the CORS headers of an answer."""
    return {name for name in response.headers if name.startswith("access-control-")}


def test_a_page_of_the_bucket_may_post(requests):
    response = preflight(requests, headers="Content-Type, x-custom")
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == PAGE
    assert response.headers["access-control-allow-methods"] == "POST, GET, HEAD"
    assert response.headers["access-control-allow-headers"] == "content-type, x-custom"
    assert response.headers["access-control-expose-headers"] == "ETag, Location"
    assert response.headers["access-control-max-age"] == "600"
    assert "Origin" in response.headers["vary"]


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"origin": FOREIGN}, 403, "AccessForbidden"),
        ({"origin": "https://app.example.evil.example"}, 403, "AccessForbidden"),
        ({"origin": "http://app.example"}, 403, "AccessForbidden"),
        ({"origin": "null"}, 403, "AccessForbidden"),
        ({"method": "PUT"}, 403, "AccessForbidden"),
        ({"method": None}, 400, "BadRequest"),
        ({"origin": None}, 400, "BadRequest"),
        ({"bucket": "no-such-bucket-1"}, 403, "AccessForbidden"),
    ],
)
def test_a_preflight_is_refused_without_any_access_header(asked, status, code, requests):
    response = preflight(requests, **asked)
    assert (response.status_code, error_code(response)) == (status, code)
    assert access_headers(response) == set()


def test_a_bucket_without_rules_refuses_every_preflight(requests, s3_client, bucket):
    s3_client.delete_bucket_cors(Bucket=bucket)
    response = preflight(requests)
    assert (response.status_code, error_code(response)) == (403, "AccessForbidden")
    assert access_headers(response) == set()


def test_rules_may_hold_a_wildcard_and_headers_are_held_to_them(requests, s3_client, bucket):
    rule = {"AllowedOrigins": ["https://*.example"], "AllowedMethods": ["PUT"], "AllowedHeaders": ["x-a*"]}
    s3_client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    assert preflight(requests, "https://any.example", "PUT", "x-abc").status_code == 200
    assert preflight(requests, "https://any.example", "PUT", "x-b").status_code == 403
    assert preflight(requests, "https://any.test", "PUT", "x-abc").status_code == 403


def test_any_origin_is_told_as_a_star(requests, s3_client, bucket):
    rule = {"AllowedOrigins": ["*"], "AllowedMethods": ["POST"]}
    s3_client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    headers = preflight(requests).headers
    assert headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in headers


def test_a_page_may_read_the_answer_to_its_post_and_a_foreign_one_may_not(form):
    form.headers["Origin"] = PAGE
    response = form.send()
    assert response.headers["access-control-allow-origin"] == PAGE
    assert response.headers["access-control-expose-headers"] == "ETag, Location"
    form.headers["Origin"] = FOREIGN
    assert access_headers(form.send()) == set()
