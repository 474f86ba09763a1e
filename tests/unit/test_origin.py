"""Origins of apps and patterns, addresses as they count, and URLs as they are shown."""

import re
from ipaddress import ip_network

import pytest

from broker.domain import origin


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("capacitor://localhost", True),
        ("tauri://localhost:1430", True),
        ("app+x.y-z://a.b_c", True),
        ("https://app.example", False),
        ("file://host", False),
        ("javascript://host", False),
        ("capacitor://", False),
        ("capacitor://localhost/path", False),
        ("1app://localhost", False),
        ("capacitor://localhost:0", False),
    ],
)
def test_an_app_has_an_origin_of_its_own_scheme(value: str, accepted: bool) -> None:
    assert origin.is_app_origin(value) is accepted


@pytest.mark.parametrize(
    ("pattern", "accepted"),
    [
        ("https://*.app.example", True),
        ("https://*.app.example:8443", True),
        ("https://*.app.example:443", False),
        ("https://*.app.example:99999", False),
        ("https://*.example", False),
        ("http://*.app.example", False),
        ("https://*.*.example", False),
        ("https://*app.example", False),
        ("https://app.example", False),
    ],
)
def test_a_pattern_stands_for_one_label_of_a_domain(pattern: str, accepted: bool) -> None:
    assert origin.is_origin_pattern(pattern) is accepted


def test_a_pattern_matches_the_origins_of_one_more_label() -> None:
    expression = re.compile(origin.expression_of("https://*.app.example"))
    matched = ["https://a.app.example", "https://a-1.app.example", "https://7.app.example"]
    others = [
        "https://app.example",
        "https://.app.example",
        "https://a.b.app.example",
        "https://-a.app.example",
        "https://a-.app.example",
        "https://A.app.example",
        "https://aXappXexample",
    ]
    assert [value for value in matched + others if expression.fullmatch(value)] == matched
    assert origin.expression_of("*.*").count(r"\*") == 1
    assert origin.example_of("https://*.app.example") == "https://example.app.example"
    assert origin.example_of("https://app.example") == "https://app.example"
    assert origin.example_of("*.*") == "example.*"


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:8080/a", True),
        ("http://127.0.0.1/", True),
        ("http://[::1]:9000", True),
        ("https://app.example/localhost", False),
    ],
)
def test_the_hosts_of_this_machine_are_known(url: str, loopback: bool) -> None:
    assert origin.is_loopback(url) is loopback


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:se@cret@app.example:8443/hook?token=secret#x", "https://app.example:8443/hook"),
        ("redis://:a/b[c@one:6379,two:6379/0", "redis://one:6379,two:6379/0"),
        ("https://app.example/a", "https://app.example/a"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert origin.bare(url) == shown


def test_a_url_without_a_host_has_no_origin() -> None:
    assert origin.origin("https:///path") is None


@pytest.mark.parametrize(
    ("network", "counted"),
    [
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:192.0.2.7/128", "192.0.2.7/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("2001:db8::/32", "2001:db8::/32"),
    ],
)
def test_a_network_in_ipv6_form_counts_as_its_ipv4_network(network: str, counted: str) -> None:
    assert origin.network_of(network) == ip_network(counted)
