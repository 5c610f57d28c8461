"""Checks before first use: is this Redis safe for tasks, and does this version know the queue's layout?"""

from collections.abc import Mapping
from contextlib import suppress

from stoker.errors import RedisFull, RedisRefused
from stoker.queue.keys import LAYOUT, Keys
from stoker.redis.client import RedisClient, ask, ask_everywhere
from stoker.redis.replies import parse_info
from stoker.version import VERSION

OLDEST = (6, 2)
Info = Mapping[str, object]


async def check_server(redis: RedisClient) -> None:
    """Raises RedisRefused for a server that may lose tasks or cannot run the scripts. Checks every master of a cluster.

    Uses INFO alone, since managed services forbid CONFIG.
    """
    for info in await ask_everywhere(redis, "INFO"):
        if wrong := complaint(parse_info(info), cluster=redis.follows_slots):
            raise RedisRefused(wrong)


async def check_layout(redis: RedisClient, keys: Keys) -> None:
    """Raises RedisRefused for a queue with a newer layout, which this version would damage.

    A queue without a layout number gets this version's, unless Redis is full: then a later call writes it.
    """
    found = await ask(redis, "HGET", keys.meta, "layout")
    if found is None:
        with suppress(RedisFull):
            await ask(redis, "HSETNX", keys.meta, "layout", LAYOUT)
    elif int(found) > LAYOUT:
        raise RedisRefused(
            f"queue {keys.queue} was written by a newer version of Stoker (layout {int(found)}); "
            f"this is {VERSION}, which knows layout {LAYOUT}: upgrade this program, see docs/reference/wire-format.md"
        )


def complaint(info: Info, *, cluster: bool) -> str | None:
    """What is wrong with a server, from its INFO, and what to do; None if nothing is."""
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
            f"Redis may evict tasks when its memory is full (maxmemory-policy is {policy}): "
            "CONFIG SET maxmemory-policy noeviction, and set it in the configuration file, chart or parameter group too"
        )
    return None


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) or OLDEST
