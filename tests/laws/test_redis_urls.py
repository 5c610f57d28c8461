"""What a Redis URL says, whatever the kind of Redis."""

import ssl

import pytest

from stoker.errors import Invalid
from stoker.redis.connect import connect
from stoker.redis.url import ClusterUrl, SentinelUrl, Single, read, without_password


def test_one_server():
    assert read("redis://anna:p%40ss@example.org:7000/3") == Single(
        {"host": "example.org", "port": 7000, "db": 3, "username": "anna", "password": "p@ss"}
    )


def test_one_server_over_tls(tmp_path):
    (tmp_path / "ca.crt").touch()
    address = read(f"rediss://example.org?ssl_ca_certs={tmp_path}/ca.crt")
    assert address == Single({"host": "example.org", "ssl": True, "ssl_ca_certs": f"{tmp_path}/ca.crt"})


def test_the_master_behind_sentinels():
    address = read("redis+sentinel://anna:secret@s1:7000,s2,[::1]:7001/main/2?sentinel_password=other")
    assert address == SentinelUrl(
        "main",
        [("s1", 7000), ("s2", 26379), ("::1", 7001)],
        {"username": "anna", "password": "secret", "db": 2},
        {"password": "other"},
    )


def test_sentinels_over_tls_are_asked_over_tls():
    address = read("rediss+sentinel://s1/main")
    assert isinstance(address, SentinelUrl)
    assert address.options["ssl"] is address.sentinel_options["ssl"] is True


def test_the_options_that_users_know():
    query = "socket_timeout=2.5&socket_connect_timeout=1&max_connections=8&client_name=shop&db=4&socket_keepalive=yes"
    assert read(f"redis://h/1?{query}") == Single(
        {
            "host": "h",
            "db": 4,
            "client_name": "shop",
            "max_connections": 8,
            "socket_timeout": 2.5,
            "socket_connect_timeout": 1.0,
            "socket_keepalive": True,
        }
    )
    assert read("unix://anna:p%40ss@/run/r.sock?db=2") == Single(
        {"path": "/run/r.sock", "username": "anna", "password": "p@ss", "db": 2}
    )


def test_the_options_of_tls():
    query = "ssl_cert_reqs=none&ssl_check_hostname=False&ssl_min_version=771&ssl_ciphers=HIGH&ssl_ca_path=/tls&ssl_password=a%20b"
    flags = "ssl_include_verify_flags=VERIFY_X509_STRICT,VERIFY_CRL_CHECK_LEAF"
    address = read(f"rediss://h?{query}&{flags}")
    assert address == Single(
        {
            "host": "h",
            "ssl": True,
            "ssl_cert_reqs": ssl.CERT_NONE,
            "ssl_check_hostname": False,
            "ssl_min_version": ssl.TLSVersion.TLSv1_2,
            "ssl_ciphers": "HIGH",
            "ssl_ca_path": "/tls",
            "ssl_password": "a b",
            "ssl_include_verify_flags": ssl.VerifyFlags.VERIFY_X509_STRICT | ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF,
        }
    )


def test_options_of_other_clients_are_ignored():
    needless = "protocol=3&health_check_interval=30&retry_on_timeout=yes&socket_read_size=4096&timeout=5"
    assert read(f"redis://h?{needless}") == Single({"host": "h"})


def test_where_it_is_said_and_who_may_come_in_is_not():
    assert read("redis+sentinel://s1/main") == SentinelUrl("main", [("s1", 26379)], {}, {})
    assert read("redis+cluster://n1") == ClusterUrl([("n1", 6379)], {})


def test_the_nodes_of_a_cluster():
    assert read("redis+cluster://:secret@n1:7000,n2") == ClusterUrl([("n1", 7000), ("n2", 6379)], {"password": "secret"})


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.org", "must start with one of redis://"),
        ("redis://example.org:port", "a port is a number"),
        ("redis://:pa/ss@example.org", "a port is a number"),
        ("redis://example.org/main", "'main' is not the number of a database"),
        ("redis+sentinel://s1:26379", "must name their master"),
        ("redis+sentinel://s1/main/first", "'first' is not the number of a database"),
        ("redis+cluster://n1/1", "only database 0"),
        ("redis+cluster://n1,:7000", "a host is missing"),
        ("rediss://example.org?ssl_ca_certs=/nowhere/ca.crt", "/nowhere/ca.crt cannot be read"),
        ("redis://example.org?socket_timeout=soon", "Invalid value for 'socket_timeout'"),
        ("redis://example.org?socket_timeout=-1", "Invalid value for 'socket_timeout'"),
        ("redis://example.org?max_connections=0", "Invalid value for 'max_connections'"),
        ("rediss://example.org?ssl_check_hostname=perhaps", "Invalid value for 'ssl_check_hostname'"),
        ("rediss://example.org?ssl_cert_reqs=maybe", "Invalid value for 'ssl_cert_reqs'"),
        ("redis://example.org?ssl_ca_path=/tls", "'ssl_ca_path' is not an option of a connection without TLS: write rediss"),
        ("unix://?db=1", "the path of the socket is missing"),
    ],
)
def test_a_bad_url_is_refused_with_what_is_wrong_with_it(url: str, reason: str):
    with pytest.raises(Invalid, match="bad Redis URL") as refused:
        read(url)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "url", ["redis://example.org?colour=red", "redis+sentinel://s1/main?colour=red", "redis+cluster://n1?colour=red"]
)
def test_an_unknown_option_is_refused_before_the_first_call(url: str):
    with pytest.raises(Invalid, match="'colour' is not an option"):
        connect(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://anna:secret@example.org/0",
        "redis://:se/secret/cret@example.org",
        "redis+sentinel://anna:secret@s1,s2/main?sentinel_password=secret&ssl_check_hostname=no",
        "redis+cluster://:secret@n1:99999",
    ],
)
def test_no_message_shows_the_password(url: str):
    assert "secret" not in without_password(url)
    assert "secret" not in complaint_about(url)


def complaint_about(url: str) -> str:
    try:
        read(url)
    except Invalid as error:
        return str(error)
    return ""
