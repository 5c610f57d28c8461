"""Allow list of outbound HTTP calls, and what a response means for the task.

Two checks, both must pass: scheme, host and port of the URL are on the list, and every address that the host name resolves to is
public or in an allowed network. The second keeps payloads from reaching cloud metadata or the cluster through a DNS name.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from msgspec import Struct

from stoker.errors import Invalid

PORTS = {"https": 443, "http": 80}
LONGEST_WAIT = 86400.0
"""Seconds: the upper bound of a Retry-After header."""

_HOST = re.compile(r"(?:(?P<scheme>https?)://)?(?P<host>\*|(?:\*\.)?[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?")
_AGAIN = frozenset({408, 425, 429})
_NAT64 = ip_network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class AllowedHost(Struct, frozen=True):
    """A host that tasks may call: a name, `*.example.org` for its subdomains, or `*` for any."""

    scheme: str
    host: str
    port: int

    def covers(self, scheme: str, host: str, port: int) -> bool:
        """Whether a URL with this scheme, host and port is allowed."""
        return (self.scheme, self.port) == (scheme, port) and self._covers_name(host)

    def _covers_name(self, host: str) -> bool:
        if self.host == "*":
            return True
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and len(host) > len(self.host) - 1
        return host == self.host


class Allowed(Struct, frozen=True):
    """The hosts and private networks that tasks may call."""

    hosts: tuple[AllowedHost, ...]
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, hosts: str, networks: str = "") -> "Allowed":
        """From lists such as `api.example.org, *.example.net:8443, http://legacy` and `10.1.0.0/16`. Raises Invalid."""
        return cls(tuple(_host(word) for word in _words(hosts)), tuple(_network(word) for word in _words(networks)))

    def check_url(self, scheme: str, host: str, port: int) -> None:
        """Raises Invalid for a URL that is not on the list, and for a literal address that is not allowed."""
        name = host.lower().removesuffix(".")
        if not any(allowed.covers(scheme, name, port) for allowed in self.hosts):
            raise Invalid(f"{scheme}://{host}:{port} is not among the hosts that this worker may call")
        literal = _literal(name)
        if literal is not None:
            self.check_address(literal, host)

    def check_address(self, address: Address, host: str) -> None:
        """Raises Invalid for a private, loopback, link-local or multicast address outside the allowed networks."""
        real = _real(address)
        public = real.is_global and not real.is_multicast
        if not public and not any(real in network for network in self.networks if network.version == real.version):
            raise Invalid(f"{host} is {real}, which is not a public address: this worker may not call it")


class Verdict(Enum):
    """What a response means for the task: success, retry, or dead."""

    GOOD = "good"
    AGAIN = "again"
    NEVER = "never"


def judge(status: int, expected: frozenset[int]) -> Verdict:
    """GOOD for an expected status (default: any 2xx), AGAIN for 408, 425, 429 and 5xx, else NEVER."""
    if status in expected if expected else 200 <= status < 300:
        return Verdict.GOOD
    return Verdict.AGAIN if status in _AGAIN or status >= 500 else Verdict.NEVER


def retry_after(header: str, now: datetime) -> float | None:
    """Seconds to wait, from a Retry-After header (seconds or an HTTP date); None for a malformed one."""
    text = header.strip()
    if text.isdecimal():
        return min(float(text[:9]), LONGEST_WAIT)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    seconds = (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]


def _host(word: str) -> AllowedHost:
    found = _HOST.fullmatch(word.lower())
    if not found or int(found["port"] or 0) > 65535:
        raise Invalid(f"bad host {word!r}: write name, *.name, name:port or http://name")
    scheme = found["scheme"] or "https"
    return AllowedHost(scheme, found["host"].strip("[]").removesuffix("."), int(found["port"] or PORTS[scheme]))


def _network(word: str) -> Network:
    try:
        return ip_network(word)
    except ValueError as error:
        raise Invalid(f"bad network {word!r}: {error}") from error


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _real(address: Address) -> Address:
    """The IPv4 address that is embedded in an IPv6 one (mapped, 6to4, NAT64): packets may reach it."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address.sixtofour:
            return address.sixtofour
        if address in _NAT64:
            return IPv4Address(address.packed[-4:])
    return address
