"""Where webhooks may go, and where not (RULES 8.4)."""

from ipaddress import ip_network

import pytest

from services.notification.domain.addresses import may_reach, url_problem

INSIDE = (
    "127.0.0.1",
    "127.255.0.9",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "not an address",
    "",
)


@pytest.mark.parametrize("address", INSIDE)
def test_nothing_inside_is_reached(address: str) -> None:
    assert not may_reach(address, ())


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_what_is_public_is_reached(address: str) -> None:
    assert may_reach(address, ())


def test_a_network_that_is_allowed_is_reached_and_no_other() -> None:
    allowed = (ip_network("10.1.0.0/16"), ip_network("::1/128"))
    assert may_reach("10.1.2.3", allowed)
    assert may_reach("::ffff:10.1.2.3", allowed)
    assert may_reach("::1", allowed)
    assert not may_reach("10.2.2.3", allowed)
    assert not may_reach("127.0.0.1", allowed)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "//example.com",
        "example.com/hook",
        "https://",
        "https:///hook",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://example.com/#top",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://exa mple.com/",
        "https://example.com\\@inside/",
        "https://exämple.com/",
        "https://example.com/\n",
        "https://[::1/",
        "http://example.com/",
    ],
)
def test_an_url_that_is_none_or_that_misleads_is_refused(url: str) -> None:
    assert url_problem(url, allow_http=False)


def test_an_url_over_tls_is_taken_and_a_plain_one_where_that_is_allowed() -> None:
    assert url_problem("https://example.com:8443/hook?shop=1", allow_http=False) == ""
    assert url_problem("https://[2606:4700:4700::1111]/", allow_http=False) == ""
    assert url_problem("http://127.0.0.1:9000/hook", allow_http=True) == ""
