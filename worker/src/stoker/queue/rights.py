"""What a Redis user must be allowed to do: the keys of a namespace, and the commands of each component.

The operator makes users with these, and docs/how-to/redis.md lists them. tests/engine/test_rights.py compares the commands with
what the scripts call, and tries each component without each of them.
"""

from collections.abc import Iterable, Mapping


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


COMMANDS: Mapping[str, frozenset[str]] = {
    "worker": _set(
        "blpop del eval evalsha exists hdel hexists hget hgetall hincrby hlen hmget hset hsetnx info llen lpush pexpire "
        "ping sadd smismember srandmember srem time unlink xadd xdel xinfo|stream xlen xrange zadd zcard zcount zlexcount "
        "zpopmin zrange zrangebylex zrangebyscore zrem zscore"
    ),
    "application": _set(
        "eval evalsha exists hdel hexists hget hincrby hmget hset hsetnx llen lpush ping sadd sscan time xadd xdel "
        "xrange zadd zcount zlexcount zrangebylex zrangebyscore zrem zscore"
    ),
    "gateway": _set(
        "del eval evalsha exists hdel hexists hget hgetall hincrby hkeys hlen hmget hscan hset hsetnx info llen lpush "
        "memory|usage pexpire ping sadd smismember srem sscan time type unlink xadd xdel xinfo|stream xlen xrange xread "
        "xrevrange zadd zcard zcount zlexcount zrange zrangebylex zrangebyscore zrem zrevrange zscan zscore"
    ),
    "operator": _set(
        "eval evalsha exists hdel hexists hget hgetall hincrby hkeys hmget hscan hset hsetnx llen lpush memory|usage "
        "ping time xadd xlen xrange zadd zcard zcount zrange zrangebylex zrangebyscore zrem zscore"
    ),
}
"""The commands of each component on one server. A Redis Cluster needs CLUSTER SLOTS, COMMAND and ASKING too."""
REDIS_6_2 = frozenset({"persist"})
"""Called by the scripts on Redis 6.2 only."""
DURABILITY = frozenset({"wait"})
"""Sent for `durability=`."""
SINCE_REDIS_7_2 = frozenset({"waitaof"})
"""Sent for `durability=` too. An ACL rule with a command that the server does not know is refused."""


def keys_of(namespace: str) -> tuple[str, str]:
    """The patterns of all keys of a namespace. Braces match themselves, so `{a:*` does not match `{ab:q}:ready`.

    `namespace` has no `* ? [ \\`, which have a meaning in patterns: names of Kubernetes have none.
    """
    return f"~{{{namespace}:*", f"~{{{namespace}}}:*"


ALL_KEYS = ("~{*",)
"""The pattern of the keys of all namespaces."""


def rules(keys: Iterable[str], commands: Iterable[str]) -> tuple[str, ...]:
    """The ACL rules for these key patterns and commands."""
    return (*keys, *(f"+{command}" for command in sorted(commands)))
