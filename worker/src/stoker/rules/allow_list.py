"""Allow list of outbound HTTP calls, and what a response means for the task.

Two checks, both must pass: scheme, host and port of the URL are on the list, and every address that the host name resolves to is
public or in an allowed network. The second keeps payloads from reaching cloud metadata or the cluster through a DNS name.
"""

import re
import unicodedata
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
# What inet_aton and browsers read as a number: 127.1, 2130706433, 0177.0.0.1, 0x7f.1. A name of DNS never ends so.
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")

METADATA = {
    "AWS, Azure, GCP, Oracle, OpenStack and others": "169.254.169.254",
    "AWS": "fd00:ec2::254",
    "AWS, tasks of ECS": "169.254.170.2",
    "AWS, pods of EKS": "169.254.170.23",
    "AWS, pods of EKS by IPv6": "fd00:ec2::23",
    "Azure, the host's agent": "168.63.129.16",
    "GCP": "fd20:ce::254",
    "Oracle": "192.0.0.192",
    "Alibaba": "100.100.100.200",
    "Tencent": "169.254.0.23",
    "Scaleway": "169.254.42.42",
    "Scaleway by IPv6": "fd00:42::42",
    "Akamai": "fd00:a9fe:a9fe::1",
    "OpenStack by IPv6": "fe80::a9fe:a9fe",
}
"""Addresses at which clouds hand out credentials of the machine. Only a network of this one address allows one of them."""
_METADATA = frozenset(map(ip_address, METADATA.values()))

_INTERNAL = tuple(
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4"),
        *("64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fec0::/10"),
    )
)
"""Not public either. Which of them `is_global` knows depends on the release of Python."""

_EMBEDDING = tuple(ip_network(network) for network in ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96"))
"""IPv6 networks whose addresses end in the IPv4 address that packets reach: NAT64, SIIT, and the oldest form."""
_ISATAP = frozenset({b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe"})

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
        _check_spelling(host)
        name = host.lower().removesuffix(".")
        if not any(allowed.covers(scheme, name, port) for allowed in self.hosts):
            raise Invalid(f"{scheme}://{host}:{port} is not among the hosts that this worker may call")
        literal = _literal(name)
        if literal is not None:
            self.check_address(literal, host)

    def check_address(self, address: Address, host: str) -> None:
        """Raises Invalid for a private, loopback, link-local or multicast address outside the allowed networks."""
        real = real_address(address)
        allowing = [network for network in self.networks if network.version == real.version and real in network]
        if real in _METADATA:
            if any(network.num_addresses == 1 for network in allowing):
                return
            raise Invalid(
                f"{host} is {real}, where a cloud hands out credentials, not a public address: this worker may not call it"
            )
        if not _public(real) and not allowing:
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
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]


def _host(word: str) -> AllowedHost:
    found = _HOST.fullmatch(word.lower())
    if not found or int(found["port"] or 0) > 65535:
        raise Invalid(f"bad host {word!r}: write name, *.name, name:port or http://name")
    _check_spelling(found["host"].strip("[]").removeprefix("*."))
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


def _check_spelling(host: str) -> None:
    """Raises Invalid for a host that resolvers and clients may read as different ones: a number in disguise, a zone."""
    name = unicodedata.normalize("NFKC", host).lower().strip("[]")
    if "%" in name:
        raise Invalid(f"{host!r} has a zone or an escape: this worker may not call it")
    last = name.rstrip(".").rpartition(".")[2]
    if (
        ":" not in name
        and _NUMBER.fullmatch(last)
        and (name != host.lower().strip("[]") or not isinstance(_literal(name), IPv4Address))
    ):
        raise Invalid(f"{host!r} is a number in disguise: write an address as four decimal numbers, without leading zeros")
    if ".." in name or not host.isascii():
        raise Invalid(f"{host!r} is no name of a host: write one in ASCII, with xn-- for other letters")


def _public(address: Address) -> bool:
    internal = any(address in network for network in _INTERNAL if network.version == address.version)
    return address.is_global and not address.is_multicast and not internal


def real_address(address: Address) -> Address:
    """The IPv4 address that is embedded in an IPv6 one (mapped, 6to4, NAT64, SIIT, ISATAP): packets may reach it."""
    if not isinstance(address, IPv6Address):
        return address
    if address.scope_id:
        address = IPv6Address(int(address))
    if embedded := address.ipv4_mapped or address.sixtofour:
        return embedded
    ends_in_one = any(address in network for network in _EMBEDDING) and int(address) > 1  # :: and ::1 are their own
    if ends_in_one or address.packed[8:12] in _ISATAP:
        return IPv4Address(address.packed[-4:])
    return address
