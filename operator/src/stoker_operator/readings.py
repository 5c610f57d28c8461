"""Looking into Redis: one round trip for all queues of one Redis, and its troubles in words."""

import asyncio
import contextlib
from collections.abc import Collection, Sequence

from stoker.errors import Invalid, RedisRefused, RedisUnavailable
from stoker.queue.inspector import Inspector, QueueStats
from stoker_operator.plan import Halt
from stoker_operator.roster import Reading


class Readings:
    """An inspector per Redis, made when first needed. `timeout` (seconds) bounds each read."""

    def __init__(self, namespace: str, timeout: float) -> None:
        self._namespace = namespace
        self._timeout = timeout
        self._inspectors: dict[str, Inspector] = {}

    async def read(self, url: str, queues: Sequence[Sequence[str]]) -> list[Reading]:
        """A reading per queue, each given by its places, in order. Never raises for what Redis or its URL may do."""
        try:
            inspector = self._inspectors.get(url) or Inspector.at(url, self._namespace)
            self._inspectors[url] = inspector
            return [Reading(stats) for stats in await self._stats(inspector, queues)]
        except Invalid as error:
            trouble = Halt("InvalidRedisUrl", str(error))
        except TimeoutError:
            trouble = Halt("RedisUnreachable", f"Redis did not answer within {self._timeout:g}s")
        except RedisUnavailable as error:
            trouble = Halt("RedisUnreachable", str(error))
        except RedisRefused as error:
            if len(queues) > 1:  # one broken queue must not blind its neighbours
                return [reading for queue in queues for reading in await self.read(url, [queue])]
            trouble = Halt("RedisRefused", str(error))
        return [Reading(trouble=trouble)] * len(queues)

    async def _stats(self, inspector: Inspector, queues: Sequence[Sequence[str]]) -> list[QueueStats]:
        async with asyncio.timeout(self._timeout):
            return await inspector.totals(queues)

    async def keep_only(self, urls: Collection[str]) -> None:
        """Hang up on every Redis that no queue needs any more."""
        for url in set(self._inspectors) - set(urls):
            with contextlib.suppress(RedisUnavailable, RedisRefused, OSError):
                await self._inspectors.pop(url).close()
