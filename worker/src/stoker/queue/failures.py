"""What redis-py and Redis say when something is wrong, and the error of ours that it becomes.

Two questions decide. Does it pass by itself? Then it is RedisUnavailable, and whoever waits may try again.
Must a person mend it? Then it is RedisRefused, and the message says how. Redis' own words stand in brackets.
"""

import re
import ssl
from collections.abc import Iterator

from redis import exceptions
from stoker.errors import RedisFull, RedisRefused, RedisUnavailable

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

_CODES: dict[type[BaseException], str] = {
    exceptions.AuthenticationError: "WRONGPASS",
    exceptions.AuthenticationWrongNumberOfArgsError: "WRONGPASS",
    exceptions.AuthorizationError: "NOPERM",
    exceptions.MovedError: "MOVED",
    exceptions.AskError: "ASK",
}
# A script's failing command, within: "ERR Error running script (...): @user_script:17: -OOM command not allowed".
_NESTED = re.compile(r"@user_script: ?\d+: -?([A-Z]+) ")
# The same for a right that a script's caller lacks: Redis says it in words, without a code.
_LACKS_RIGHT = re.compile(r"ACL failure in script|The user executing the script can't")
_PASSING_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


def mapped(error: BaseException) -> RedisUnavailable | RedisRefused:
    """Our error for one of redis-py's or the operating system's."""
    for each in _causes(error):
        if isinstance(each, ssl.SSLError) and not isinstance(each, _PASSING_TLS):
            return RedisRefused(f"TLS with Redis fails: mend ssl_ca_certs, ssl_certfile and ssl_keyfile in the URL ({each})")
        if code := code_of(each):
            return _of_code(code, each)
    if isinstance(error, exceptions.MaxConnectionsError):
        return RedisUnavailable("this process already uses all the connections to Redis that it may have")
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError):
        return RedisUnavailable(f"{SILENT} ({error or type(error).__name__})")
    if isinstance(error, exceptions.RedisClusterException | exceptions.ClusterError):
        return _of_cluster(error)
    return RedisRefused(f"Redis refused the call ({error})")


def code_of(error: BaseException) -> str | None:
    """The first word of Redis' answer where it is one of those we know, also from inside a script."""
    if not isinstance(error, exceptions.RedisError):
        return None
    if found := _NESTED.search(str(error)):
        return _known(found[1])
    if _LACKS_RIGHT.search(str(error)):
        return "NOPERM"
    first = str(error).partition(" ")[0]
    return _known(error.status_code or "") or _CODES.get(type(error)) or _known(first)


def _known(code: str) -> str | None:
    return code if code in PASSING or code in TO_MEND or code == "OOM" else None


def _of_code(code: str, error: BaseException) -> RedisUnavailable | RedisRefused:
    if code == "OOM":
        return RedisFull(f"{FULL} ({error})")
    if code in PASSING:
        return RedisUnavailable(f"{PASSING[code]} ({error})")
    return RedisRefused(f"{TO_MEND[code]} ({error})")


def _of_cluster(error: BaseException) -> RedisUnavailable | RedisRefused:
    if "not enabled" in str(error):
        return RedisRefused(f"this Redis is not a cluster: write redis:// instead of redis+cluster:// in the URL ({error})")
    return RedisUnavailable(f"{PASSING['CLUSTERDOWN']} ({error})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    # redis-py wraps what happened while connecting, sometimes twice.
    yield error
    each: BaseException | None = error
    while isinstance(each, exceptions.ConnectionError | exceptions.RedisClusterException) and (
        each := each.__cause__ or each.__context__
    ):
        yield each
