"""Whether a Redis can be trusted with tasks, and a queue be understood. Asked once, before the first task is taken or served."""

from collections.abc import Mapping
from contextlib import suppress

from stoker.errors import RedisFull, RedisRefused
from stoker.queue.keys import LAYOUT, Keys
from stoker.redis.client import RedisClient, ask, ask_everywhere
from stoker.redis.replies import told
from stoker.version import VERSION

OLDEST = (6, 2)
Info = Mapping[str, object]


async def check_server(redis: RedisClient) -> None:
    """Raises RedisRefused for a server that would lose tasks or cannot run the scripts, RedisUnavailable for one that is away.

    INFO answers everything, also where CONFIG is forbidden. Of a cluster every master is asked.
    """
    for info in await ask_everywhere(redis, "INFO"):
        if wrong := complaint(told(info), cluster=redis.follows_slots):
            raise RedisRefused(wrong)


async def check_layout(redis: RedisClient, keys: Keys) -> None:
    """Raises RedisRefused for a queue that a newer version has laid out in a way that this one would damage.

    A queue without a number gets this version's. A full server keeps its queues unnumbered until it has room.
    """
    found = await ask(redis, "HGET", keys.meta, "layout")
    if found is None:
        with suppress(RedisFull):
            await ask(redis, "HSETNX", keys.meta, "layout", LAYOUT)
    elif int(found) > LAYOUT:
        raise RedisRefused(
            f"queue {keys.queue} was laid out by a newer version of Stoker (layout {int(found)}); "
            f"this is {VERSION}, which knows layout {LAYOUT}: upgrade this program, see docs/reference/wire-format.md"
        )


def complaint(info: Info, *, cluster: bool) -> str | None:
    """What is wrong with a server that says this of itself, and what mends it; None for a good one."""
    mode = info.get("redis_mode", info.get("server_mode", "standalone"))
    version = str(info.get("redis_version", ""))
    policy = info.get("maxmemory_policy", "noeviction")
    if mode == "sentinel":
        return "this is a Sentinel, not a Redis: write redis+sentinel://host:26379/<name of the master> in the URL"
    if mode == "cluster" and not cluster:
        return "this is a Redis Cluster: write redis+cluster:// instead of redis:// in the URL"
    if _number(version) < OLDEST:
        return f"Redis {version} is too old: Stoker needs Redis 6.2 or newer, or any Valkey"
    if policy != "noeviction":
        return (
            f"Redis may throw tasks away when its memory is full (maxmemory-policy is {policy}): "
            "CONFIG SET maxmemory-policy noeviction, and write the same into its configuration file, chart or parameter group"
        )
    return None


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) or OLDEST
