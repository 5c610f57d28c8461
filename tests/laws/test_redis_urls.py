"""What a Redis URL says, whatever the kind of Redis."""

import ssl
from traceback import format_exception

import pytest

from stoker.errors import Invalid
from stoker.redis.connect import connect
from stoker.redis.url import ClusterUrl, SentinelUrl, Single, read, shown_address


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


@pytest.mark.parametrize(
    "url",
    [
        "unix:///var/run/redis.sock",
        "UNIX:///var/run/redis.sock",
        "rediss://h?ssl_certfile=/etc/passwd",
        "rediss://h?ssl_keyfile=/etc/passwd",
        "rediss://h?ssl_ca_certs=/etc/passwd",
        "rediss://h?ssl_ca_path=/etc",
        "rediss://h?ssl_password=x",
        "rediss://h?ssl%5Fcertfile=/etc/passwd",
        "rediss://h?ssl_check_hostname=no&ssl_certfile=",
        "rediss+cluster://h?ssl_ca_certs=/etc/passwd",
        "rediss+sentinel://h/main?ssl_ca_certs=/etc/passwd",
        "rediss+sentinel://h/main?sentinel_ssl_ca_certs=/etc/passwd",
        "redis://h?path=/run/r.sock",
        "redis+cluster://" + ",".join(["h"] * 33),
    ],
)
def test_a_tenants_url_names_no_file_socket_or_flood_of_hosts(url: str):
    """The operator would open its own files, and its error would say whether they exist."""
    with pytest.raises(Invalid) as raised:
        connect(url, foreign=True)
    assert not any(word in str(raised.value) for word in ("passwd", "/etc", "/run", "cannot be read"))


def test_a_tenants_url_has_everything_else():
    for url in (
        "redis://anna:p%40ss@h:7000/3?client_name=shop&socket_timeout=2&protocol=3",
        "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=no&ssl_min_version=771&ssl_ciphers=HIGH&ssl_ca_data=PEM",
        "redis+sentinel://h,i/main?sentinel_username=u&sentinel_password=p",
        "redis+cluster://" + ",".join(["h"] * 32),
    ):
        assert read(url, foreign=True) == read(url)


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
        ("redis://example.org/main", "is not the number of a database"),
        ("redis+sentinel://s1:26379", "must name their master"),
        ("redis+sentinel://s1/main/first", "is not the number of a database"),
        ("redis+cluster://n1/1", "only database 0"),
        ("redis+cluster://n1,:7000", "a host is missing"),
        ("rediss://example.org?ssl_ca_certs=/nowhere/ca.crt", "the file of ssl_ca_certs cannot be read"),
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
    with pytest.raises(Invalid, match="option 1 of its query is not an option"):
        connect(url)


MALFORMED = [
    pytest.param("hunter2", id="nothing but the password"),
    pytest.param("anna:hunter2@h", id="no scheme"),
    pytest.param("anna:hunter2@h:6379/0", id="no scheme, with a port"),
    pytest.param(":hunter2@h", id="no scheme and no user"),
    pytest.param("redis:anna:hunter2@h", id="no slashes"),
    pytest.param("redis:/:hunter2@h", id="one slash"),
    pytest.param("//anna:hunter2@h", id="slashes alone"),
    pytest.param("http://anna:hunter2@h", id="another scheme"),
    pytest.param("redis+hunter2://h", id="within the scheme"),
    pytest.param("redis://:/hunter2@h", id="begins with a slash"),
    pytest.param("redis://anna:/hunter2@h", id="begins with a slash, with a user"),
    pytest.param("redis://:se/hunter2@h", id="a slash within"),
    pytest.param("redis://se/hunter2@h", id="a slash within, no colon"),
    pytest.param("redis://:12/hunter2@h", id="a slash after what could be a port"),
    pytest.param("redis://:?hunter2@h", id="begins with a question mark"),
    pytest.param("redis://se?hunter2@h", id="a question mark within"),
    pytest.param("redis://se?a=hunter2@h", id="a question mark and an equals sign"),
    pytest.param("redis://se?hunter2=a@h", id="an option of that name"),
    pytest.param("redis://:#hunter2@h", id="begins with a hash"),
    pytest.param("redis://se#hunter2@h", id="a hash within"),
    pytest.param("redis://:[hunter2@h", id="an opening bracket"),
    pytest.param("redis://:hunter2]@h", id="a closing bracket"),
    pytest.param("redis://[hunter2]@h]", id="brackets"),
    pytest.param("redis://anna:hunter2\u2100@h", id="a sign that NFKC makes a slash of"),
    pytest.param("redis://h?PASSWORD=hunter2", id="the option in capitals"),
    pytest.param("redis://h?Password=hunter2", id="the option capitalized"),
    pytest.param("redis://h?pass=hunter2", id="the option shortened"),
    pytest.param("redis://h?passwd=hunter2&password=hunter2", id="the option misspelled"),
    pytest.param("redis://h?p%61ss=hunter2", id="a percent-encoded option"),
    pytest.param("redis://h?x=1&%70ASSWORD=hunter2", id="a percent-encoded option in capitals"),
    pytest.param("redis://h?db=hunter2", id="as the database"),
    pytest.param("redis://h?socket_timeout=hunter2", id="as a time"),
    pytest.param("redis://h/hunter2", id="after the host"),
    pytest.param("redis://h:hunter2", id="as the port"),
    pytest.param("redis://:hunter2@h:port", id="a port that is no number"),
    pytest.param("redis://:hunter2@h:99999", id="a port too high"),
    pytest.param("rediss://h?ssl_ca_certs=/hunter2", id="as a file"),
    pytest.param("rediss://:hunter2@h?ssl_keyfile=/nowhere", id="a file that is not there"),
    pytest.param("rediss://h?ssl_cert_reqs=hunter2", id="as an option of TLS"),
    pytest.param("redis+sentinel://:hunter2@s1", id="no master"),
    pytest.param("redis+sentinel://:hunter2@s1,:7/main", id="no host of a sentinel"),
    pytest.param("redis+sentinel://se/hunter2@s1", id="a slash within, with sentinels"),
    pytest.param("redis+sentinel://s1/main/hunter2", id="as the database of a master"),
    pytest.param("redis+sentinel://s1/main?Sentinel_Password=hunter2", id="for the sentinels, in capitals"),
    pytest.param("redis+cluster://:hunter2@n1/1", id="a database of a cluster"),
    pytest.param("redis+cluster://:hunter2@n1:99999", id="a port of a cluster"),
    pytest.param("redis+cluster://n1,hunter2:x", id="as a host of a cluster"),
    pytest.param("unix://:hunter2@?db=1", id="no path of a socket"),
    pytest.param("redis://h?:hunter2", id="an option without a value"),
]


@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_url_is_refused_without_a_part_of_it(url: str):
    with pytest.raises(Invalid, match="bad Redis URL") as refused:
        read(url)
    traceback = "".join(format_exception(refused.value))
    assert "hunter2" not in f"{refused.value} {refused.value.__cause__}"
    assert "hunter2" not in traceback.partition("stoker.errors.Invalid")[2]
    assert shown_address(url) == "***"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://anna:hunter2@example.org/0", "redis://***@example.org"),
        ("redis://:hunter2@[::1]:7000/0", "redis://***@[::1]:7000"),
        ("redis://example.org?password=hunter2", "redis://example.org"),
        ("redis://example.org?%70assword=hunter2", "redis://example.org"),
        ("redis://hun%20ter2", "redis://***"),
        ("unix://:hunter2@/run/r.sock", "unix://***"),
        ("unix://:/hunter2@/run/r.sock", "unix://***"),
        ("redis+sentinel://anna:hunter2@s1,s2:7/main?sentinel_password=hunter2", "redis+sentinel://***@s1:26379,s2:7"),
        ("rediss+cluster://:hunter2@n1:7000,n2", "rediss+cluster://***@n1:7000,n2:6379"),
    ],
)
def test_of_a_url_the_address_alone_is_shown(url: str, shown: str):
    assert shown_address(url) == shown


def test_brackets_in_a_password_are_advised_to_be_escaped():
    with pytest.raises(Invalid, match=r"# \[ \] and % are written"):
        read("redis://:p[ss@example.org")
    assert read("redis://:p%5Bss@example.org") == Single({"host": "example.org", "password": "p[ss"})
