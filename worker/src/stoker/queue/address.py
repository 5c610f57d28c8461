"""A Redis URL, read once: which kind of Redis it is, where its servers are, and redis-py's options for a connection.

    redis://[user:password@]host[:port][/db]        one server; rediss:// for TLS, unix:///path for a socket
    redis+sentinel://[user:password@]s1:26379,s2/master[/db]   the master that these sentinels name
    redis+cluster://[user:password@]n1:6379,n2:6379            a Redis Cluster; any of its nodes will do

Queries are redis-py's: ?ssl_ca_certs=/tls/ca.crt&ssl_certfile=...&ssl_keyfile=...; with Sentinel also
sentinel_username and sentinel_password. rediss+sentinel:// and rediss+cluster:// are the same over TLS.
"""

import os
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url

from stoker.errors import Invalid

SENTINEL_PORT, REDIS_PORT = 26379, 6379
_SINGLE = ("redis", "rediss", "unix")
_SENTINEL = ("redis+sentinel", "rediss+sentinel")
_CLUSTER = ("redis+cluster", "rediss+cluster")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

Options = dict[str, Any]
Host = tuple[str, int]


class Single(NamedTuple):
    """One server, which never changes its address."""

    options: Options


class Master(NamedTuple):
    """The server that the sentinels call master by this name, wherever it is now."""

    name: str
    sentinels: list[Host]
    options: Options
    sentinel_options: Options


class Nodes(NamedTuple):
    """A Redis Cluster, found through any of these nodes."""

    hosts: list[Host]
    options: Options


Address = Single | Master | Nodes


def read(url: str) -> Address:
    """What a URL says. Raises Invalid, which never shows the password."""
    try:
        parts = urlsplit(url)
        if parts.scheme in _SINGLE:
            return Single(_options(url))
        if parts.scheme in _SENTINEL:
            return _master(parts)
        if parts.scheme in _CLUSTER:
            return _nodes(parts)
    except ValueError as error:
        raise Invalid(f"bad Redis URL {without_password(url)!r}: {error}") from error
    schemes = ", ".join(f"{scheme}://" for scheme in (*_SINGLE, *_SENTINEL, *_CLUSTER))
    raise Invalid(f"bad Redis URL {without_password(url)!r}: it must start with one of {schemes}")


def without_password(url: str) -> str:
    """The URL as it may be shown in logs and messages."""
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{'***' + at if credentials else ''}{_without_secrets(host or rest)}"


def _without_secrets(rest: str) -> str:
    place, question, query = rest.partition("?")
    shown = [f"{name}=***" if "password" in name else f"{name}{'=' if value else ''}{value}" for name, value in _pairs(query)]
    return place + question + "&".join(shown)


def _pairs(query: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (pair.partition("=") for pair in query.split("&"))]


def _master(parts: SplitResult) -> Master:
    name, _, db = parts.path.strip("/").partition("/")
    if not name:
        raise ValueError("after the sentinels it must name their master, as in redis+sentinel://host:26379/mymaster")
    options = _without_host(_options(_as_single(parts, db)))
    sentinel = {key.removeprefix("sentinel_"): options.pop(key) for key in list(options) if key.startswith("sentinel_")}
    sentinel |= {key: value for key, value in options.items() if key.startswith("ssl")}
    return Master(name, _hosts(parts, SENTINEL_PORT), options, sentinel)


def _nodes(parts: SplitResult) -> Nodes:
    options = _without_host(_options(_as_single(parts, parts.path)))
    if options.pop("db", 0):
        raise ValueError("a Redis Cluster has only database 0")
    return Nodes(_hosts(parts, REDIS_PORT), options)


def _as_single(parts: SplitResult, db: str) -> str:
    # Only so that redis-py reads credentials, database and query: it knows nothing of many hosts.
    credentials, at, _ = parts.netloc.rpartition("@")
    return parts._replace(scheme=parts.scheme.partition("+")[0], netloc=f"{credentials}{at}any", path=f"/{db.strip('/')}").geturl()


def _without_host(options: Options) -> Options:
    return {name: value for name, value in options.items() if name != "host"}


def _options(url: str) -> Options:
    """redis-py's options for a connection; `ssl` for TLS."""
    parts = urlsplit(url)
    _port(parts)
    if parts.scheme != "unix" and (db := parts.path.strip("/")) and not db.isdecimal():
        raise ValueError(f"{db!r} is not the number of a database")
    options: Options = {**parse_url(url)}
    if options.get("connection_class") is SSLConnection:
        del options["connection_class"]
        options["ssl"] = True
    for name in _FILES:
        if (path := options.get(name)) and not os.access(path, os.R_OK):
            raise ValueError(f"{name}={path} cannot be read")
    return options


def _hosts(parts: SplitResult, port: int) -> list[Host]:
    hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
    if not all(host.hostname for host in hosts):
        raise ValueError("a host is missing")
    return [(host.hostname or "", _port(host) or port) for host in hosts]


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:  # its text may hold a piece of the password
        advice = "in a password, @ : / ? # and % are written %40 %3A %2F %3F %23 %25"
        raise ValueError(f"a port is a number up to 65535; {advice}") from None
