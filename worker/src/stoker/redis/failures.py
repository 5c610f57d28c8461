"""Maps errors of Redis, TLS and the operating system to RedisUnavailable or RedisRefused.

RedisUnavailable passes by itself: retry. RedisRefused needs a person, and its message says what to do. Redis' own text follows in
brackets.
"""

import contextlib
import re
import ssl
from collections.abc import Iterator

from stoker.errors import RedisFull, RedisRefused, RedisUnavailable
from stoker.redis.replies import ErrorReply
from stoker.redis.reply_limit import NotRedis, ReplyTooLarge

PASSING = {
    "LOADING": "Redis has started and is loading its data",
    "BUSY": "Redis is busy with a script that runs for too long; SCRIPT KILL ends it unless it has written",
    "READONLY": "Redis is a replica now, which refuses writes: a failover is under way, or the URL leads to a replica",
    "MASTERDOWN": "Redis is a replica that has lost its master",
    "NOREPLICAS": "Redis has fewer replicas than its min-replicas-to-write requires, and refuses writes until they are back",
    "CLUSTERDOWN": "the Redis Cluster is down or has lost some of its slots",
    "TRYAGAIN": "the queue's slot is moving to another node of the Redis Cluster",
    "ASK": "the queue's slot is moving to another node of the Redis Cluster",
    "MOVED": "the queue's slot has moved to another node of the Redis Cluster",
    "UNBLOCKED": "Redis has become a replica, which refuses writes",
}
"""Error codes of Redis that pass by themselves, and what they mean."""

TO_MEND = {
    "NOAUTH": "Redis wants credentials: write them into the URL, as in redis://user:password@host",
    "WRONGPASS": "Redis refuses these credentials: correct them in the URL, or ACL SETUSER <user> on '><password>'",
    "NOPERM": "this Redis user lacks a permission: ACL SETUSER <user> with the permissions that docs/how-to/redis.md lists",
    "MISCONF": "Redis refuses writes because it cannot write to its disk: free disk space and BGSAVE, "
    "or CONFIG SET stop-writes-on-bgsave-error no",
    "DENIED": "Redis only accepts connections from its own machine: set a password there, or CONFIG SET protected-mode no",
    "CROSSSLOT": "this is a Redis Cluster: write redis+cluster:// instead of redis:// in the URL",
    "WRONGTYPE": "a key of this queue holds something else: give Stoker its own namespace or database",
}
"""Error codes of Redis that stay until a person acts, and what to do."""

FULL = "Redis is full: let the queue drain, or CONFIG SET maxmemory <more>"
SILENT = "Redis does not answer"
REFUSED = "Redis refused the call"
NO_REDIS = "what answers there is no Redis"
ALL_IN_USE = "all Redis connections of this process are in use: raise max_connections in the URL's query"

_AUTH = re.compile(r"ERR (invalid password|Client sent AUTH|AUTH <password> called|wrong number of arguments (?i:for 'auth'))")
"""Replies about credentials that have no code of their own."""
_CROWDED = "ERR max number of clients reached"
_NO_CLUSTER = "ERR This instance has cluster support disabled"
# The failing command of a script is nested: "ERR Error running script (...): @user_script:17: -OOM command not allowed".
_NESTED = re.compile(r"@user_script: ?\d+: -?([A-Z]+) ")
# A missing permission within a script, which has no code.
_LACKS_RIGHT = re.compile(r"ACL failure in script|The user executing the script can't")
_PASSING_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


def mapped(error: BaseException) -> RedisUnavailable | RedisRefused:
    """The error of ours for an ErrorReply or an OSError."""
    if isinstance(error, ssl.SSLError) and not isinstance(error, _PASSING_TLS):
        return RedisRefused(f"TLS with Redis fails: check ssl_ca_certs, ssl_certfile and ssl_keyfile in the URL ({error})")
    if isinstance(error, ReplyTooLarge):
        return RedisRefused(f"{error}: the connection was cut. Read less at a time, or find who writes such values")
    if isinstance(error, NotRedis):
        return RedisUnavailable(f"{NO_REDIS} ({error})")
    if isinstance(error, OSError):
        return RedisUnavailable(f"{SILENT} ({error or type(error).__name__})")
    if known := code_of(error):
        return _of_code(known, error)
    if str(error).startswith(_CROWDED):
        return RedisUnavailable(f"Redis refuses new connections: raise its maxclients if this lasts ({error})")
    if str(error).startswith(_NO_CLUSTER):
        return RedisRefused(f"this Redis is not a cluster: write redis:// instead of redis+cluster:// in the URL ({error})")
    return RedisRefused(f"{REFUSED} ({error})")


def code_of(error: BaseException) -> str | None:
    """The error code of a reply, also from inside a script; None for a code that is not listed here."""
    if not isinstance(error, ErrorReply):
        return None
    if found := _NESTED.search(str(error)):
        return _known(found[1])
    if _LACKS_RIGHT.search(str(error)):
        return "NOPERM"
    return "WRONGPASS" if _AUTH.match(str(error)) else _known(error.code)


def login_refused(error: RedisRefused) -> bool:
    """Whether the server does not know the user and password."""
    return error.__cause__ is not None and code_of(error.__cause__) == "WRONGPASS"


@contextlib.contextmanager
def errors_mapped() -> Iterator[None]:
    """Raise RedisUnavailable or RedisRefused for what a client raises."""
    try:
        yield
    except (ErrorReply, OSError) as error:
        raise mapped(error) from error


def _known(code: str) -> str | None:
    return code if code in PASSING or code in TO_MEND or code == "OOM" else None


def _of_code(code: str, error: BaseException) -> RedisUnavailable | RedisRefused:
    if code == "OOM":
        return RedisFull(f"{FULL} ({error})")
    if code in PASSING:
        return RedisUnavailable(f"{PASSING[code]} ({error})")
    return RedisRefused(f"{TO_MEND[code]} ({error})")
