"""Guard against browsers: a web page must not reach the gateway through the browser of a person who can.

Two ways are closed. DNS rebinding: the page's own domain resolves to the gateway's address, so that the browser takes the answers
for the page's. The Host header then names that domain, and is refused. Cross-site requests: the browser sends a POST or DELETE for
a page of another site; its Sec-Fetch-Site or Origin says so. Callers that send neither header are no browsers.
"""

from collections.abc import Collection
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from stoker.gateway.problems import Refusal, response_of

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FOREIGN = frozenset({"cross-site", "same-site"})
_RESOLVER = Path("/etc/resolv.conf")


class Hosts:
    """The names by which the gateway may be called.

    On loopback: `localhost` and loopback addresses. Elsewhere: any IP address, which no page can rebind (probes and scrapes use the
    pod's), and the names of Services. Everywhere: the `listed` names.
    """

    def __init__(self, listed: Collection[str] = (), *, loopback: bool = False, suffixes: Collection[str] = ()) -> None:
        self._listed = frozenset(name.lower() for name in listed)
        self._loopback = loopback
        self._suffixes = (".svc", *suffixes)

    @classmethod
    def of(cls, address: str, listed: Collection[str]) -> "Hosts":
        """For a gateway that listens on `address`."""
        return cls(listed, loopback=_is_loopback(address), suffixes=_service_suffixes(_resolver_text()))

    def allow(self, host: str) -> bool:
        """Whether a Host header may be this, a name with or without a port."""
        name = host_name(host)
        if name is None:
            return False
        if name in self._listed or _is_loopback(name):
            return True
        return not self._loopback and (_is_address(name) or "." not in name or name.endswith(self._suffixes))

    def listed(self, host: str) -> bool:
        """Whether this is one of the listed names, with or without a port."""
        return host_name(host) in self._listed


class Guarded:
    """The middleware: 421 for a Host that is not ours, 403 for a change that another site's page asks for."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope["method"], Headers(scope=scope))):
            await response_of(refusal)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> Refusal | None:
        host = headers.get("host")
        if host and not self._hosts.allow(host):
            detail = "the Host header is none of this gateway's names: list it with --allowed-hosts or STOKER_ALLOWED_HOSTS"
            return Refusal(HTTPStatus.MISDIRECTED_REQUEST, detail)
        if method in _SAFE:
            return None
        if headers.get("sec-fetch-site", "").lower() in _FOREIGN or not self._ours(headers.get("origin"), host):
            return Refusal(HTTPStatus.FORBIDDEN, "a page of another site must not change anything here", "cross-site")
        return None

    def _ours(self, origin: str | None, host: str | None) -> bool:
        """Whether a request comes from our own page: /docs, or a page of a listed name."""
        if origin is None:
            return True
        try:
            address = urlsplit(origin).netloc.lower()
        except ValueError:
            return False
        return bool(address) and (address == (host or "").lower() or self._hosts.listed(address))


def host_name(host: str) -> str | None:
    """The name in a Host header, without port, brackets and the dot of the root. None if there is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return None if "@" in host or parts.path or not parts.hostname else parts.hostname.removesuffix(".")


def _service_suffixes(resolver: str) -> list[str]:
    """The endings of Services' names in this pod: `search shop.svc.cluster.local ...` gives .shop, .shop.svc.cluster.local, ..."""
    found = []
    for line in resolver.splitlines():
        keyword, *domains = line.split()[:8] or [""]
        for domain in domains if keyword == "search" else ():
            namespace, service, cluster = (*domain.split(".", 2), "", "")[:3]
            if service == "svc" and cluster:
                found += [f".{namespace}", f".svc.{cluster}"]
    return found


def _resolver_text() -> str:
    try:
        return _RESOLVER.read_text(errors="replace")
    except OSError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    if _is_address(name):
        return ip_address(name).is_loopback
    return name == "localhost" or name.endswith(".localhost")
