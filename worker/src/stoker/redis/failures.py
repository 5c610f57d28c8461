"""What Redis and the way to it say when something is wrong, and the error of ours that it becomes.

Two questions decide. Does it pass by itself? Then it is RedisUnavailable, and whoever waits may try again.
Must a person mend it? Then it is RedisRefused, and the message says how. Redis' own words stand in brackets.
"""

import contextlib
import re
import ssl
from collections.abc import Iterator

from stoker.errors import RedisFull, RedisRefused, RedisUnavailable
from stoker.redis.replies import ErrorReply

PASSING = {
    "LOADING": "Redis has started and is loading its data",
    "BUSY": "Redis is busy with a script that runs for too long (SCRIPT KILL ends one that has written nothing)",
    "READONLY": "Redis is a replica now, which takes no writes: a failover is under way, or the URL leads to a replica",
    "MASTERDOWN": "Redis is a replica that has lost its master",
    "NOREPLICAS": "Redis has fewer replicas than its min-replicas-to-write asks for, and takes no writes until they are back",
    "CLUSTERDOWN": "the Redis Cluster is down or has lost some of its slots",
    "TRYAGAIN": "the queue's slot is on its way to another node of the Redis Cluster",
    "ASK": "the queue's slot is on its way to another node of the Redis Cluster",
    "MOVED": "the queue's slot has gone to another node of the Redis Cluster",
    "UNBLOCKED": "Redis has become a replica, which takes no writes",
}
"""Error codes of Redis that pass by themselves, or with the trouble that others already know of."""

TO_MEND = {
    "NOAUTH": "Redis wants credentials: write them into the URL, as in redis://user:password@host",
    "WRONGPASS": "Redis refuses these credentials: mend them in the URL, or ACL SETUSER <user> on '><password>'",
    "NOPERM": "this Redis user lacks a right: ACL SETUSER <user> with the rights that docs/how-to/redis.md lists",
    "MISCONF": "Redis takes no writes because it cannot write to its disk: make room there and BGSAVE, "
    "or CONFIG SET stop-writes-on-bgsave-error no",
    "DENIED": "Redis only talks to its own machine: set a password there, or CONFIG SET protected-mode no",
    "CROSSSLOT": "this is a Redis Cluster: write redis+cluster:// instead of redis:// in the URL",
    "WRONGTYPE": "a key of this queue holds something else: give Stoker a namespace or a database of its own",
}
"""Error codes of Redis that stay until a person mends them."""

FULL = "Redis is full: let the queue drain, or CONFIG SET maxmemory <more>"
SILENT = "Redis does not answer"

_AUTH = re.compile(r"ERR (invalid password|Client sent AUTH|AUTH <password> called|wrong number of arguments (?i:for 'auth'))")
"""What a server says of credentials without a code."""
_CROWDED = "ERR max number of clients reached"
_NO_CLUSTER = "ERR This instance has cluster support disabled"
# A script's failing command, within: "ERR Error running script (...): @user_script:17: -OOM command not allowed".
_NESTED = re.compile(r"@user_script: ?\d+: -?([A-Z]+) ")
# The same for a right that a script's caller lacks: Redis says it in words, without a code.
_LACKS_RIGHT = re.compile(r"ACL failure in script|The user executing the script can't")
_PASSING_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


def mapped(error: BaseException) -> RedisUnavailable | RedisRefused:
    """Our error for an ErrorReply or one of the operating system's."""
    if isinstance(error, ssl.SSLError) and not isinstance(error, _PASSING_TLS):
        return RedisRefused(f"TLS with Redis fails: mend ssl_ca_certs, ssl_certfile and ssl_keyfile in the URL ({error})")
    if isinstance(error, OSError):
        return RedisUnavailable(f"{SILENT} ({error or type(error).__name__})")
    if known := code_of(error):
        return _of_code(known, error)
    if str(error).startswith(_CROWDED):
        return RedisUnavailable(f"Redis lets nobody else in: raise its maxclients if that lasts ({error})")
    if str(error).startswith(_NO_CLUSTER):
        return RedisRefused(f"this Redis is not a cluster: write redis:// instead of redis+cluster:// in the URL ({error})")
    return RedisRefused(f"Redis refused the call ({error})")


def code_of(error: BaseException) -> str | None:
    """The first word of Redis' answer where it is one of those we know, also from inside a script."""
    if not isinstance(error, ErrorReply):
        return None
    if found := _NESTED.search(str(error)):
        return _known(found[1])
    if _LACKS_RIGHT.search(str(error)):
        return "NOPERM"
    return "WRONGPASS" if _AUTH.match(str(error)) else _known(error.code)


@contextlib.contextmanager
def errors_mapped() -> Iterator[None]:
    """Turn what a client raises into `RedisUnavailable` (try again) or `RedisRefused` (mend it first)."""
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
