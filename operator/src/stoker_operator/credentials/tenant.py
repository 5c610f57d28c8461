"""The Secret `stoker-redis` and the Redis user of a namespace, as values. Pure.

A namespace's workers and producers share one user, which reaches the keys of that namespace only. The keys of the Secret are the
variables that Stoker's programs read, so that `envFrom` hands them to a producer.
"""

import re
import secrets
import shlex
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from msgspec import Struct

from stoker.queue.rights import ALL_KEYS, COMMANDS, DURABILITY, REDIS_6_2, SINCE_REDIS_7_2, keys_of, rules
from stoker_operator.state.ref import FIELD_MANAGER, MANAGED_BY, Object

SECRET = "stoker-redis"  # noqa: S105  a name
URL, NAMESPACE = "STOKER_REDIS_URL", "STOKER_NAMESPACE"
"""Keys of the Secret."""
_PASSWORD = re.compile(r"[A-Za-z0-9_-]{16,128}")
_SCHEMES = ("redis", "rediss")
_SHARED_OPTIONS = frozenset(
    {"db", "socket_connect_timeout", "socket_timeout", "socket_keepalive"}
    | {"ssl_ca_data", "ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version"}
)
"""Options of the operator's URL that its tenants get too: no credentials, no files of the operator's pod."""


class User(Struct, frozen=True):
    """A Redis user. `optional` rules are left out where a server does not know one."""

    name: str
    password: str
    rules: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"User({self.name!r})"


def new_password() -> str:
    """256 random bits, in characters that need no escape in a URL."""
    return secrets.token_urlsafe(32)


def user_name(namespace: str) -> str:
    """A dot: no namespace has one, so this is never the name of another component's user, such as stoker-gateway."""
    return f"stoker.{namespace}"


def tenant_user(namespace: str, password: str, *, select: bool = False) -> User:
    """The user of a namespace: what its workers, producers and people need. `select`: its database is not 0."""
    commands = COMMANDS["worker"] | COMMANDS["application"] | COMMANDS["gateway"] | REDIS_6_2 | DURABILITY
    return _user(user_name(namespace), password, rules(keys_of(namespace), commands), select)


def gateway_user(password: str, *, select: bool = False) -> User:
    """The user of the gateway, which serves all namespaces."""
    return _user("stoker-gateway", password, rules(ALL_KEYS, COMMANDS["gateway"] | REDIS_6_2 | DURABILITY), select)


def _user(name: str, password: str, rights: tuple[str, ...], select: bool) -> User:
    return User(name, password, (*rights, "+select") if select else rights, rules((), SINCE_REDIS_7_2))


def can_be_shared(url: str) -> bool:
    """Whether this URL can serve tenants: a Sentinel's has the sentinels' password too, a Cluster's users are per node."""
    return urlsplit(url).scheme in _SCHEMES


def selects(url: str) -> bool:
    """Whether clients of this URL send SELECT."""
    parts = urlsplit(url)
    return parts.path.strip("/") not in ("", "0") or dict(parse_qsl(parts.query)).get("db", "0") != "0"


def url_for(url: str, user: str, password: str) -> str:
    """The operator's URL with another login, and without what concerns only the operator's pod."""
    parts = urlsplit(url)
    server = parts.netloc.rpartition("@")[2]
    login = f"{user}:{quote(password, safe='')}@"  # an administrator's may have any character
    options = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name in _SHARED_OPTIONS])
    return urlunsplit((parts.scheme, login + server, parts.path, options, ""))


def tenant_data(url: str, namespace: str, password: str) -> dict[str, str]:
    """The content of the Secret of a namespace; `url` is the operator's."""
    return {URL: url_for(url, user_name(namespace), password), NAMESPACE: namespace}


def password_in(data: Mapping[str, bytes]) -> str | None:
    """The password of the URL in a Secret that the operator made; None if it is not one of its passwords."""
    try:
        password = urlsplit(data.get(URL, b"").decode()).password or ""
    except ValueError:
        return None
    return password if _PASSWORD.fullmatch(password) else None


def secret(namespace: str, name: str, data: Mapping[str, str]) -> Object:
    """A Secret as the operator creates it. Without an owner: it outlives the TaskQueues of the namespace, as their tasks do."""
    metadata = {"name": name, "namespace": namespace, "labels": {MANAGED_BY: FIELD_MANAGER}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": dict(data)}


def creation_command(namespace: str) -> str:
    """The command with which an administrator makes the Secret of a namespace."""
    words = ["kubectl", "create", "secret", "generic", SECRET, "--namespace", namespace]
    return f"{shlex.join(words)} --from-literal={URL}='redis://USER:PASSWORD@HOST:6379/0' --from-literal={NAMESPACE}={namespace}"
