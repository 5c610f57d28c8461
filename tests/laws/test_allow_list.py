"""Where a ready-made HTTP task may go, and what an answer means."""

from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from stoker.errors import Invalid
from stoker.rules.allow_list import LONGEST_WAIT, METADATA, Allowed, Verdict, judge, retry_after

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


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "127.0.1", "2130706433", "0", "0177.0.0.1", "127.0.0.01", "0x7f.1", "0x7f000001", "0X7F.0.0.1", "1.0x", "0x"),
        *("１２７.0.0.1", "１２７.１", "①②⑦.0.0.1", "127。0。0。1", "127.0.0.1.", "1.1.1.1.", "1.1.1.1..", "a.1", "256.1.1.1"),
        *("fe80::1%eth0", "[2606:4700::1111%25eth0]", "a%2e1", "example..org", "exämple.org", "ｅxample.org"),
    ],
)
def test_a_host_that_may_be_read_in_two_ways_is_refused(host: str):
    """inet_aton, resolvers and HTTP clients read these differently: what was checked must be what is called."""
    with pytest.raises(Invalid, match=r"in disguise|zone|no name"):
        Allowed.parse("*", "0.0.0.0/0 ::/0").check_url("https", host, 443)


@pytest.mark.parametrize(
    "host", ["xn--exmple-cua.org", "a-1.example.org", "1.example.org", "0x7f.example.org", "a.example.org.", "a_b"]
)
def test_an_odd_name_is_a_name(host: str):
    Allowed.parse("*").check_url("https", host, 443)


@pytest.mark.parametrize("word", ["127.1", "2130706433", "http://0x7f.1", "*.1"])
def test_a_list_of_numbers_in_disguise_cannot_be_meant(word: str):
    with pytest.raises(Invalid, match="in disguise"):
        Allowed.parse(word)


@pytest.mark.parametrize("address", METADATA.values(), ids=METADATA.keys())
def test_where_a_cloud_hands_out_credentials_only_an_entry_for_this_address_allows_it(address: str):
    """Networks of pods are often 100.64.0.0/10 or fd00::/8, which hold such addresses."""
    wide = Allowed.parse("*", "0.0.0.0/0 ::/0 169.254.0.0/16 100.64.0.0/10 fd00::/8")
    for allowed in (Allowed.parse("*"), wide):
        with pytest.raises(Invalid, match="hands out credentials"):
            allowed.check_address(ip_address(address), "somewhere")
        with pytest.raises(Invalid, match="hands out credentials"):
            allowed.check_url("https", address, 443)
    Allowed.parse("*", address).check_address(ip_address(address), "somewhere")


@pytest.mark.parametrize(
    "address",
    [
        *(
            "::7f00:1",
            "::ffff:0:7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::7f00:1",
            "2002:a00:1::",
            "2606::5efe:a00:1",
            "2606::200:5efe:a00:1",
        ),
        *("fec0::1", "2001:0:1::1", "3fff::1", "5f00::1", "192.88.99.1", "192.0.0.8", "198.18.0.1", "240.0.0.1", "255.255.255.255"),
        *("::ffff:168.63.129.16", "64:ff9b::a83f:8110", "2002:a83f:8110::", "::ffff:100.100.100.200"),
    ],
)
def test_an_address_inside_is_not_called_however_it_is_embedded(address: str):
    with pytest.raises(Invalid, match="may not call it"):
        Allowed.parse("*").check_address(ip_address(address), "somewhere")


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
        ("Mon, 04 May 2026 12:00:30 +9999999999999", None),
        ("-5", None),
        ("1.5", None),
    ],
)
def test_when_to_come_back(header: str, seconds: float | None):
    assert retry_after(header, NOW) == seconds
