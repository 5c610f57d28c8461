"""How the connections of a client are made: who comes in, over TLS or not, and how long anything may take."""

import socket
import ssl
from typing import Any

from stoker.redis.url import Host, Options
from stoker.redis.wire import Command, Pending, Wire


class Connector:
    """What all connections of a client have in common. `options` are those that a URL may have, all of the timeouts among them."""

    def __init__(self, options: Options) -> None:
        self.patience: float = options["socket_timeout"]
        """Seconds in which an answer must come."""
        self.most: int = options["max_connections"]
        """So many connections may block at a time."""
        self._options = options
        self._tls: ssl.SSLContext | None = None

    async def open(self, host: Host) -> Wire:
        """A connection to this server, or to the socket that the options name. Raises OSError or ErrorReply."""
        options = self._options
        if options.get("ssl") and self._tls is None:
            self._tls = _context(options)
        place = Pending(*host, options.get("path"), self._tls, _greetings(options))
        wire = await Wire.to(place, options["socket_connect_timeout"])
        if options.get("socket_keepalive"):
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return wire


def _greetings(options: Options) -> list[Command]:
    """What a server wants to hear first. PING is for its answer: one that lets nobody in says so to a short command only."""
    user, password, name, database = (options.get(each) for each in ("username", "password", "client_name", "db"))
    greetings: list[Command] = []
    if user or password:
        greetings.append(("AUTH", user, password or "") if user else ("AUTH", password))
    if name:
        greetings.append(("CLIENT", "SETNAME", name))
    if database:
        greetings.append(("SELECT", database))
    return [*greetings, ("PING",)]


def _context(options: Options) -> ssl.SSLContext:
    """Raises OSError for files that are no certificates and keys."""

    def said(name: str, default: Any = None) -> Any:
        return options.get(f"ssl_{name}", default)

    required = said("cert_reqs", ssl.CERT_REQUIRED)
    context = ssl.create_default_context()
    context.check_hostname = required != ssl.CERT_NONE and said("check_hostname", True)
    context.verify_mode = required
    context.verify_flags |= said("include_verify_flags", ssl.VerifyFlags(0))
    context.verify_flags &= ~said("exclude_verify_flags", ssl.VerifyFlags(0))
    if said("certfile") or said("keyfile"):
        context.load_cert_chain(said("certfile"), said("keyfile"), said("password"))
    if said("ca_certs") or said("ca_path") or said("ca_data"):
        context.load_verify_locations(said("ca_certs"), said("ca_path"), said("ca_data"))
    if version := said("min_version"):
        context.minimum_version = version
    if ciphers := said("ciphers"):
        context.set_ciphers(ciphers)
    return context
