"""Connector: opens connections with the TLS context, credentials and timeouts of a URL."""

import socket
import ssl
from functools import lru_cache
from typing import Any

from stoker.redis.reply_limit import ReplyLimit
from stoker.redis.url import Host, Options
from stoker.redis.wire import Command, Endpoint, Wire

_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")


class Connector:
    """`options` are those of a URL, with all timeouts present."""

    def __init__(self, options: Options, limit: ReplyLimit) -> None:
        self.answer_timeout: float = options["socket_timeout"]
        """Seconds within which a reply must come."""
        self.max_blocking: int = options["max_connections"]
        """How many connections may block at a time."""
        self._options = options
        self._limit = limit
        self._tls: ssl.SSLContext | None = None

    async def open(self, host: Host) -> Wire:
        """A connection to this server, or to the Unix socket in the options. Raises OSError or ErrorReply."""
        options = self._options
        if options.get("ssl") and self._tls is None:
            self._tls = _context(options)
        endpoint = Endpoint(*host, options.get("path"), self._tls, _handshake(options))
        wire = await Wire.open(endpoint, options["socket_connect_timeout"], self._limit)
        if options.get("socket_keepalive"):
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return wire


def _handshake(options: Options) -> list[Command]:
    """The first commands of a connection. Without the PING a server that refuses connections would not say so."""
    user, password, name, database = (options.get(each) for each in ("username", "password", "client_name", "db"))
    commands: list[Command] = []
    if user or password:
        commands.append(("AUTH", user, password or "") if user else ("AUTH", password))
    if name:
        commands.append(("CLIENT", "SETNAME", name))
    if database:
        commands.append(("SELECT", database))
    return [*commands, ("PING",)]


def _context(options: Options) -> ssl.SSLContext:
    """Raises OSError for files that hold no certificate or key."""
    settings = {name: value for name, value in options.items() if name.startswith("ssl_")}
    if any(name in settings for name in _FILES):  # which may have changed since the last connection
        return _new_context(settings)
    return shared_context(tuple(sorted(settings.items())))


@lru_cache(maxsize=64)
def shared_context(settings: tuple[tuple[str, Any], ...]) -> ssl.SSLContext:
    """One for all connections with the same options, which name no files. Loading the system's authorities takes tens of
    milliseconds and a megabyte.
    """
    return _new_context(dict(settings))


def _new_context(settings: Options) -> ssl.SSLContext:
    def option(name: str, default: Any = None) -> Any:
        return settings.get(f"ssl_{name}", default)

    required = option("cert_reqs", ssl.CERT_REQUIRED)
    # Whose URL has the certificates of authorities trusts these alone, and none of the system is loaded.
    context = ssl.create_default_context(cadata=option("ca_data"))
    context.check_hostname = required != ssl.CERT_NONE and option("check_hostname", True)
    context.verify_mode = required
    context.verify_flags |= option("include_verify_flags", ssl.VerifyFlags(0))
    context.verify_flags &= ~option("exclude_verify_flags", ssl.VerifyFlags(0))
    if option("certfile") or option("keyfile"):
        context.load_cert_chain(option("certfile"), option("keyfile"), option("password"))
    if option("cert_data"):
        _load_client_certificate(context, f"{option('key_data', '')}\n{option('cert_data')}")
    if option("ca_certs") or option("ca_path") or option("ca_data"):
        context.load_verify_locations(option("ca_certs"), option("ca_path"), option("ca_data"))
    if version := option("min_version"):
        context.minimum_version = version
    if ciphers := option("ciphers"):
        context.set_ciphers(ciphers)
    return context


def _load_client_certificate(context: ssl.SSLContext, pem: str) -> None:
    """OpenSSL loads a certificate and its key from a file alone. This one exists for the moment, readable by this user only."""
    import tempfile  # for those who need it

    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name, password="")
