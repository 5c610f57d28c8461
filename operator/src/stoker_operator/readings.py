"""Looking into Redis: one round trip for all queues of one Redis, and its troubles in words."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence

from stoker.errors import Invalid, RedisRefused, RedisUnavailable
from stoker.queue.reads.inspector import Inspector
from stoker.queue.reaping import Reaped
from stoker.queue.records import QueueStats
from stoker.queue.schedules import Schedules
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
            trouble = Halt("RedisRefused", str(error))
        if len(queues) > 1:
            # One broken queue, or one node of a cluster that is down, must not blind those who can be read.
            return list(await asyncio.gather(*(self._alone(url, queue) for queue in queues)))
        return [Reading(trouble=trouble)] * len(queues)

    async def _alone(self, url: str, queue: Sequence[str]) -> Reading:
        [reading] = await self.read(url, [queue])
        return reading

    async def reap(self, url: str, queue: str, host: str, max_lost: int) -> Reaped | None:
        """Give back what the workers of a pod held. None where Redis did not let us."""
        try:
            inspector = self._inspectors.get(url) or Inspector.at(url, self._namespace)
            self._inspectors[url] = inspector
            async with asyncio.timeout(self._timeout):
                return await inspector.reap_worker(queue, host, max_lost)
        except (Invalid, TimeoutError, RedisUnavailable, RedisRefused):
            return None  # whoever reads the queue says why

    async def _stats(self, inspector: Inspector, queues: Sequence[Sequence[str]]) -> list[QueueStats]:
        async with asyncio.timeout(self._timeout):
            return await inspector.totals(queues)

    async def at_schedules(self, url: str, queue: str, work: Callable[[Schedules], Awaitable[None]]) -> None:
        """Do this with the schedules of a queue, within the time of a read. Raises RedisUnavailable or RedisRefused."""
        known = self._inspectors.get(url)
        inspector = known or Inspector.at(url, self._namespace)
        try:
            async with asyncio.timeout(self._timeout):
                await work(inspector.schedules(queue))
        except TimeoutError:
            raise RedisUnavailable(f"Redis did not answer within {self._timeout:g}s") from None
        finally:
            if known is None:
                await _hang_up(inspector)

    async def keep_only(self, urls: Collection[str]) -> None:
        """Hang up on every Redis that no queue needs any more."""
        for url in set(self._inspectors) - set(urls):
            await _hang_up(self._inspectors.pop(url))


async def _hang_up(inspector: Inspector) -> None:
    with contextlib.suppress(RedisUnavailable, RedisRefused, OSError):
        await inspector.close()
