"""Where a ready-made HTTP task may go, and what an answer means."""

from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from stoker.errors import Invalid
from stoker.rules.allow_list import LONGEST_WAIT, Allowed, Verdict, judge, retry_after

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
LIST = "api.example.org, *.example.net:8443 http://legacy.example.org,[2606:4700::1111]"


@pytest.mark.parametrize(
    ("scheme", "host", "port"),
    [
        ("https", "api.example.org", 443),
        ("https", "API.Example.ORG", 443),
        ("https", "api.example.org.", 443),
        ("https", "a.example.net", 8443),
        ("https", "a.b.example.net", 8443),
        ("http", "legacy.example.org", 80),
        ("https", "2606:4700::1111", 443),
    ],
)
def test_what_is_on_the_list_may_be_called(scheme: str, host: str, port: int):
    Allowed.parse(LIST).check_url(scheme, host, port)


@pytest.mark.parametrize(
    ("scheme", "host", "port"),
    [
        pytest.param("http", "api.example.org", 80, id="not without TLS"),
        pytest.param("https", "api.example.org", 8443, id="not on another port"),
        pytest.param("https", "evil-api.example.org", 443, id="not a name that ends alike"),
        pytest.param("https", "api.example.org.evil.com", 443, id="not a name that begins alike"),
        pytest.param("https", "example.net", 8443, id="below it, not itself"),
        pytest.param("https", ".example.net", 8443, id="an empty label"),
        pytest.param("https", "notexample.net", 8443, id="below it, by a dot"),
        pytest.param("https", "", 443, id="nothing"),
    ],
)
def test_what_is_not_on_the_list_may_not(scheme: str, host: str, port: int):
    with pytest.raises(Invalid, match="not among the hosts"):
        Allowed.parse(LIST).check_url(scheme, host, port)


@pytest.mark.parametrize("text", ["ftp://a", "a/b", "a:99999", "user@a", "*a", "a.*", "https://a/path", "ä"])
def test_a_list_that_cannot_be_meant(text: str):
    with pytest.raises(Invalid, match="bad host"):
        Allowed.parse(text)


V4 = ("127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1")
V6 = ("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1")
V4_IN_V6 = ("::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe")


@pytest.mark.parametrize("address", [*V4, *V6, *V4_IN_V6])
def test_an_address_inside_is_not_called(address: str):
    with pytest.raises(Invalid, match="not a public address"):
        Allowed.parse("*").check_address(ip_address(address), "somewhere")


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"])
def test_nor_where_the_url_names_it(address: str):
    with pytest.raises(Invalid, match="not a public address"):
        Allowed.parse("*").check_url("https", address, 443)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_a_public_address_is(address: str):
    Allowed.parse("*").check_address(ip_address(address), "somewhere")


def test_a_network_inside_may_be_allowed():
    allowed = Allowed.parse("*", "10.1.0.0/16")
    allowed.check_address(ip_address("10.1.2.3"), "somewhere")
    allowed.check_address(ip_address("::ffff:10.1.2.3"), "somewhere")
    with pytest.raises(Invalid):
        allowed.check_address(ip_address("10.2.0.1"), "somewhere")


@pytest.mark.parametrize(
    ("status", "expected", "verdict"),
    [
        (200, (), Verdict.GOOD),
        (204, (), Verdict.GOOD),
        (404, (404,), Verdict.GOOD),
        (503, (503,), Verdict.GOOD),
        (200, (201,), Verdict.NEVER),
        (304, (), Verdict.NEVER),
        (400, (), Verdict.NEVER),
        (404, (), Verdict.NEVER),
        (408, (), Verdict.AGAIN),
        (425, (), Verdict.AGAIN),
        (429, (), Verdict.AGAIN),
        (500, (), Verdict.AGAIN),
        (599, (), Verdict.AGAIN),
    ],
)
def test_what_an_answer_means(status: int, expected: tuple[int, ...], verdict: Verdict):
    assert judge(status, frozenset(expected)) is verdict


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("99999999999999999999", LONGEST_WAIT),
        ("Mon, 04 May 2026 12:00:30 GMT", 30.0),
        ("Mon, 04 May 2026 11:00:00 GMT", 0.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", LONGEST_WAIT),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
    ],
)
def test_when_to_come_back(header: str, seconds: float | None):
    assert retry_after(header, NOW) == seconds
