"""Redis URLs: the kind of Redis, the addresses of its servers, and the connection options.

    redis://[user:password@]host[:port][/db]        one server; rediss:// for TLS, unix:///path for a socket
    redis+sentinel://[user:password@]s1:26379,s2/master[/db]   the master that these sentinels name
    redis+cluster://[user:password@]n1:6379,n2:6379            a Redis Cluster; any of its nodes

Query options have redis-py's names: ?ssl_ca_certs=/tls/ca.crt&ssl_certfile=...&ssl_keyfile=..., or their content (PEM) as
ssl_ca_data, ssl_cert_data and ssl_key_data; with Sentinel also sentinel_username and sentinel_password. rediss+sentinel:// and
rediss+cluster:// are the same over TLS.
"""

import os
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from stoker.errors import Invalid

SENTINEL_PORT, REDIS_PORT = 26379, 6379
_SINGLE = ("redis", "rediss", "unix")
_SENTINEL = ("redis+sentinel", "rediss+sentinel")
_CLUSTER = ("redis+cluster", "rediss+cluster")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
FILE_VARIABLES = {"ssl_ca_certs": "STOKER_REDIS_CA", "ssl_certfile": "STOKER_REDIS_CERT", "ssl_keyfile": "STOKER_REDIS_KEY"}
"""Option > the variable that sets it where a URL over TLS does not: a URL in a Secret need not know where files are mounted."""
Readers = Mapping[str, Callable[[str], Any]]
_REQUIRED = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_TRUE, _FALSE = ("1", "t", "true", "y", "yes", "on"), ("0", "f", "false", "n", "no", "off")


def _truth(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError(text)
    return text.lower() in _TRUE


def _seconds(text: str) -> float:
    if not 0 < float(text) < float("inf"):
        raise ValueError(text)
    return float(text)


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _flags(text: str) -> ssl.VerifyFlags:
    flags = ssl.VerifyFlags(0)
    for name in text.strip("[]").split(","):
        flags |= ssl.VerifyFlags[name.strip()]
    return flags


_OPTIONS: Readers = {
    "username": str,
    "password": str,
    "db": int,
    "client_name": str,
    "max_connections": _count,
    "socket_connect_timeout": _seconds,
    "socket_timeout": _seconds,
    "socket_keepalive": _truth,
}
_TLS_OPTIONS: Readers = {
    "ssl_ca_certs": str,
    "ssl_ca_data": str,
    "ssl_ca_path": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_cert_data": str,
    "ssl_key_data": str,
    "ssl_cert_reqs": _REQUIRED.__getitem__,
    "ssl_check_hostname": _truth,
    "ssl_ciphers": str,
    "ssl_min_version": lambda text: ssl.TLSVersion(int(text)),
    "ssl_include_verify_flags": _flags,
    "ssl_exclude_verify_flags": _flags,
}
_IGNORED = frozenset({"health_check_interval", "protocol", "retry_on_timeout", "socket_read_size", "timeout"})
"""Options of redis-py that have no meaning here. They are ignored, so a URL that has them stays valid."""
_OF_SENTINELS = "sentinel_"
_FOREIGN = frozenset({*_OPTIONS, *_IGNORED, *_TLS_OPTIONS} - {*_FILES, "ssl_ca_path", "ssl_password"})
"""Options of a URL from a tenant: none that names a file."""
MOST_HOSTS = 32
"""Sentinels or nodes in a URL from a tenant."""

_ESCAPES = "in a password, @ : / ? # [ ] and % are written %40 %3A %2F %3F %23 %5B %5D %25"
_PLAIN_HOST = re.compile(r"[A-Za-z0-9._:-]*")

Options = dict[str, Any]
Host = tuple[str, int]


class Single(NamedTuple):
    """One server with a fixed address."""

    options: Options


class SentinelUrl(NamedTuple):
    """The master of this name, found through sentinels."""

    name: str
    sentinels: list[Host]
    options: Options
    sentinel_options: Options


class ClusterUrl(NamedTuple):
    """A Redis Cluster, discovered through any of these nodes."""

    hosts: list[Host]
    options: Options


Address = Single | SentinelUrl | ClusterUrl


class _Malformed(ValueError):
    """What is wrong with a URL, and where. Never quotes it: any part of a malformed URL may be the password."""


def read(url: str, *, foreign: bool = False) -> Address:
    """Parse a URL. Raises Invalid, whose message names the part at fault and quotes nothing of the URL.

    A `foreign` one was written by someone who may not use the files and sockets of this machine: it may name none.
    """
    try:
        parts = urlsplit(url)
        if foreign:
            _check_foreign(parts)
            return _read(url, parts)
        url = _with_files(url, parts)
        return _read(url, urlsplit(url))
    except _Malformed as error:
        raise Invalid(f"bad Redis URL: {error}") from None
    except ValueError:  # of urllib, whose message may quote any part
        raise Invalid(f"bad Redis URL: its host cannot be parsed; {_ESCAPES}") from None


def hosts_of(url: str) -> list[Host]:
    """The servers, sentinels or nodes that a tenant's URL names. Raises Invalid as `read` does for a foreign one."""
    match read(url, foreign=True):
        case Single(options):
            return [(options.get("host", "localhost"), options.get("port", REDIS_PORT))]
        case SentinelUrl(_, hosts) | ClusterUrl(hosts):
            return hosts


def shown_address(url: str) -> str:
    """The URL as it may be shown in logs and messages: its scheme and the hosts and ports in it; `***@` stands for credentials."""
    try:
        address = read(url)
    except Invalid:
        return "***"
    parts = urlsplit(url)
    match address:
        case Single(options) if "path" in options:
            return f"{parts.scheme}://***"
        case Single():
            hosts = [(parts.hostname or "", _port(parts))]
        case SentinelUrl(_, hosts) | ClusterUrl(hosts):
            pass
    credentials = "***@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{credentials}{','.join(_shown_host(*host) for host in hosts)}"


def _shown_host(host: str, port: int | None) -> str:
    host = host if _PLAIN_HOST.fullmatch(host) else "***"
    return (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")


def _check_foreign(parts: SplitResult) -> None:
    if parts.scheme == "unix":
        raise _Malformed("a TaskQueue's Redis cannot be a unix:// socket: the operator would open its own")
    if parts.netloc.count(",") >= MOST_HOSTS:
        raise _Malformed(f"it names more than {MOST_HOSTS} hosts")
    for at, (name, _) in enumerate(parse_qsl(parts.query, keep_blank_values=True), 1):
        if name.removeprefix(_OF_SENTINELS) not in _FOREIGN:
            raise _Malformed(
                f"option {at} of its query is none that a TaskQueue's URL may have: files would be the operator's. "
                "Write the certificates of authorities themselves, as ssl_ca_data"
            )


def _with_files(url: str, parts: SplitResult) -> str:
    """The URL with the files that the environment names."""
    if not parts.scheme.startswith("rediss") or "#" in url:
        return url
    given = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    files = {name: os.environ.get(variable, "") for name, variable in FILE_VARIABLES.items() if name not in given}
    added = urlencode({name: path for name, path in files.items() if path})
    return f"{url}{'&' if parts.query else '?'}{added}" if added else url


def _read(url: str, parts: SplitResult) -> Address:
    if parts.scheme not in (*_SINGLE, *_SENTINEL, *_CLUSTER) or not url[len(parts.scheme) :].startswith("://"):
        schemes = ", ".join(f"{scheme}://" for scheme in (*_SINGLE, *_SENTINEL, *_CLUSTER))
        raise _Malformed(f"it must start with one of {schemes}")
    if parts.fragment or url.endswith("#"):
        raise _Malformed(f"it has a #; {_ESCAPES}")
    for at, pair in enumerate(parts.query.split("&"), 1):
        if pair and "=" not in pair:
            raise _Malformed(f"option {at} of its query has no =; {_ESCAPES}")
    if parts.scheme in (*_SENTINEL, *_CLUSTER) and "ssl_cert_data" in dict(parse_qsl(parts.query)):
        raise _Malformed("ssl_cert_data is for one server: sentinels and clusters take a client certificate from a file alone")
    if parts.scheme in _SENTINEL:
        return _master(parts)
    return _nodes(parts) if parts.scheme in _CLUSTER else Single(_options(url, _known(parts)))


def _master(parts: SplitResult) -> SentinelUrl:
    name, _, db = parts.path.strip("/").partition("/")
    if "@" in name:
        raise _Malformed(f"there is an @ after its first /; {_ESCAPES}")
    if not name:
        raise _Malformed("after the sentinels it must name their master, as in redis+sentinel://host:26379/mymaster")
    for_sentinels = {_OF_SENTINELS + name: read for name, read in {**_OPTIONS, **_TLS_OPTIONS}.items()}
    options = _without_host(_options(_as_single(parts, db), {**_known(parts), **for_sentinels}))
    sentinel = {key.removeprefix(_OF_SENTINELS): options.pop(key) for key in list(options) if key in for_sentinels}
    sentinel |= {key: value for key, value in options.items() if key.startswith("ssl")}
    return SentinelUrl(name, _hosts(parts, SENTINEL_PORT), options, sentinel)


def _nodes(parts: SplitResult) -> ClusterUrl:
    options = _without_host(_options(_as_single(parts, parts.path), _known(parts)))
    if options.pop("db", 0):
        raise _Malformed("a Redis Cluster has only database 0")
    return ClusterUrl(_hosts(parts, REDIS_PORT), options)


def _as_single(parts: SplitResult, db: str) -> str:
    # One host in the place of many, so that `_options` reads credentials, database and query.
    credentials, at, _ = parts.netloc.rpartition("@")
    return parts._replace(scheme=parts.scheme.partition("+")[0], netloc=f"{credentials}{at}any", path=f"/{db.strip('/')}").geturl()


def _without_host(options: Options) -> Options:
    return {name: value for name, value in options.items() if name != "host"}


def _known(parts: SplitResult) -> Readers:
    return {**_OPTIONS, **(_TLS_OPTIONS if parts.scheme.startswith("rediss") else {})}


def _options(url: str, known: Readers) -> Options:
    """The connection options that a URL sets: those of its query, `ssl` for TLS, `host` and `port`, or `path`."""
    parts = urlsplit(url)
    port = _port(parts)
    options: Options = {}
    for at, (name, text) in enumerate(parse_qsl(parts.query, keep_blank_values=True), 1):
        if name not in _IGNORED and (text or name not in known):
            options.setdefault(name, _option(at, name, text, known))
    options |= {name: unquote(text) for name in ("username", "password") if (text := getattr(parts, name))}
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise _Malformed("the path of the socket is missing")
        return options | {"path": unquote(parts.path)}
    options |= {name: value for name, value in (("host", unquote(parts.hostname or "")), ("port", port)) if value}
    if db := parts.path.strip("/"):
        if not db.isdecimal():
            raise _Malformed(f"what follows the / is not the number of a database; {_ESCAPES}")
        options.setdefault("db", int(db))
    if parts.scheme == "rediss":
        options["ssl"] = True
    for name in _FILES:
        if (path := options.get(name)) and not os.access(path, os.R_OK):
            raise _Malformed(f"the file of {name} cannot be read")
    return options


def _option(at: int, name: str, text: str, known: Readers) -> Any:
    read = known.get(name)
    if read is None:
        if name in _TLS_OPTIONS:
            raise _Malformed(f"{name!r} is not an option of a connection without TLS: write rediss for redis")
        raise _Malformed(f"option {at} of its query is not an option of a connection")
    try:
        return read(text)
    except (ValueError, KeyError):
        raise _Malformed(f"Invalid value for {name!r} in its query") from None


def _hosts(parts: SplitResult, port: int) -> list[Host]:
    hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
    if not all(host.hostname for host in hosts):
        raise _Malformed("a host is missing")
    return [(host.hostname or "", _port(host) or port) for host in hosts]


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        raise _Malformed(f"a port is a number up to 65535; {_ESCAPES}") from None
