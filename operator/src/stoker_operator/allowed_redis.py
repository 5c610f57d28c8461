"""Where the operator may connect to for a tenant: the hosts of URLs in TaskQueues' Secrets, and the addresses that these lead to.

The operator's pod reaches more than a tenant's pods may. Two checks: the URL's hosts, so that its author sees what is wrong, and
the address of each connection, since a name may resolve to anything, and sentinels and cluster nodes name addresses themselves.
"""

import re
from ipaddress import ip_address, ip_network

from msgspec import Struct

from stoker.errors import Invalid
from stoker.redis.url import hosts_of
from stoker.rules.allow_list import METADATA, Address, Network, real_address

_PATTERN = re.compile(r"(?P<host>\*|(?:\*\.)?[a-z0-9_.-]+)(?::(?P<port>\d{1,5}))?")
_METADATA = frozenset(map(ip_address, METADATA.values()))


class NotAllowed(Invalid):
    """The operator may not connect to a host of this URL. Names nothing of the URL: a Secret holds it."""


class HostPattern(Struct, frozen=True):
    """A name, `*.example.org` for its subdomains, or `*` for any; with a port, that one alone."""

    host: str
    port: int | None = None

    def covers(self, host: str, port: int) -> bool:
        """Whether it allows this host and port."""
        if self.port not in (None, port):
            return False
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and len(host) > len(self.host) - 1
        return self.host in ("*", host)


class AllowedRedis(Struct, frozen=True):
    """By default any host, but no address of the pod itself, of its link, of the API server, or of a cloud's metadata.

    A network in the list allows such an address too; those of the API server and of a cloud only where it has this one address.
    `in_pod`: whether loopback is the operator's own.
    """

    hosts: tuple[HostPattern, ...] = (HostPattern("*"),)
    networks: tuple[Network, ...] = ()
    api_server: str = ""
    in_pod: bool = False

    @classmethod
    def parse(cls, text: str, api_server: str = "") -> "AllowedRedis":
        """From a list such as `*.cache.example.org, redis.example.org:6380, 10.1.0.0/16`; empty: the default. Raises ValueError.

        `api_server`: its host, as a pod knows it; empty outside of one.
        """
        hosts, networks = [], []
        for word in re.split(r"[,\s]+", text.strip()) if text.strip() else ["*"]:
            if (network := _network(word)) is not None:
                networks.append(network)
            elif (found := _PATTERN.fullmatch(word.lower())) and int(found["port"] or 0) <= 65535:
                hosts.append(HostPattern(found["host"], int(found["port"]) if found["port"] else None))
            else:
                raise ValueError(f"bad host {word!r}: write name, *.name, name:port, an address or a network such as 10.1.0.0/16")
        return cls(tuple(hosts), tuple(networks), api_server, bool(api_server))

    def check_url(self, url: str) -> None:
        """Raises NotAllowed for a URL with a host that is not allowed, and Invalid for one that a tenant may not have."""
        if not all(self._allows(*host) for host in hosts_of(url)):
            raise NotAllowed("")

    def names(self, host: str, port: int) -> bool:
        """Whether the list has this name, so that what it resolves to is allowed, unless it is one of the special addresses."""
        return any(each.covers(host.lower().removesuffix("."), port) for each in self.hosts)

    def admits(self, address: str, port: int, *, named: bool = False) -> bool:
        """Whether a connection to this address may be made. `named`: a name of the list has led there."""
        try:
            real = real_address(ip_address(address))
        except ValueError:
            return False
        allowing = [each for each in self.networks if each.version == real.version and real in each]
        if real in _METADATA or str(real) == self.api_server:
            return any(each.num_addresses == 1 for each in allowing)
        if real.is_link_local or real.is_unspecified or real.is_multicast or (real.is_loopback and self.in_pod):
            return bool(allowing)
        return bool(allowing) or named or self.names(address, port)

    def _allows(self, host: str, port: int) -> bool:
        literal = _literal(host)
        if literal is not None:
            return self.admits(str(literal), port)
        if host.lower() == self.api_server.lower():
            return False
        # A name that is not in the list may still lead into an allowed network.
        return self.names(host, port) or bool(self.networks)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _network(word: str) -> Network | None:
    try:
        return ip_network(word.strip("[]"))
    except ValueError:
        return None
