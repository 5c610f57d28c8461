"""Whether a Redis can be trusted with tasks, and a queue be understood. Asked once, before the first task is taken or served."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from stoker.errors import RedisFull, RedisRefused
from stoker.queue.cluster import Cluster
from stoker.queue.connection import RedisClient, errors_mapped
from stoker.queue.keys import LAYOUT, Keys
from stoker.version import VERSION

OLDEST = (6, 2)
Info = Mapping[str, object]


async def check_server(redis: RedisClient) -> None:
    """Raises RedisRefused for a server that would lose tasks or cannot run the scripts, RedisUnavailable for one that is away.

    INFO answers everything, also where CONFIG is forbidden. Of a cluster every master is asked.
    """
    with errors_mapped():
        infos = await _of_masters(redis) if isinstance(redis, Cluster) else [await cast(Any, redis.info())]
    for info in infos:
        if wrong := complaint(info, cluster=isinstance(redis, Cluster)):
            raise RedisRefused(wrong)


async def check_layout(redis: RedisClient, keys: Keys) -> None:
    """Raises RedisRefused for a queue that a newer version has laid out in a way that this one would damage.

    A queue without a number gets this version's. A full server keeps its queues unnumbered until it has room.
    """
    with errors_mapped():
        found = await cast(Any, redis.hget(keys.meta, "layout"))
        if found is None:
            with suppress(RedisFull), errors_mapped():
                await cast(Any, redis.hsetnx(keys.meta, "layout", LAYOUT))
        elif int(found) > LAYOUT:
            raise RedisRefused(
                f"queue {keys.queue} was laid out by a newer version of Stoker (layout {int(found)}); "
                f"this is {VERSION}, which knows layout {LAYOUT}: upgrade this program, see docs/reference/wire-format.md"
            )


async def _of_masters(redis: Cluster) -> list[Info]:
    await redis.initialize()
    return [await cast(Any, redis.info(target_nodes=node)) for node in redis.get_primaries()]


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
