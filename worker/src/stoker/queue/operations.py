"""The operations of a namespace: long acts of people on many tasks, recorded while they run."""

import logging
import time

from msgspec.structs import replace

from stoker.clock import milliseconds
from stoker.errors import StokerError
from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient
from stoker.rules.operation import LONGEST, MOST_KEPT, Operation, OperationState, decode_operation, encode_operation

UPDATED_EVERY = 1.0
"""Seconds."""
MOST_BYTES = 1 << 20
"""Of operations in one read."""
_log = logging.getLogger("stoker.queue")


class RunningOperation:
    """An operation that this process runs."""

    def __init__(self, redis: RedisClient, keys: Keys, operation: Operation) -> None:
        self._redis = redis
        self._keys = keys
        self._operation = operation
        self._sent_at = float("-inf")

    async def advance(self, tasks: int) -> None:
        """So many more tasks are done. Recorded about once a second."""
        self._operation = replace(self._operation, done=self._operation.done + tasks)
        if time.monotonic() - self._sent_at >= UPDATED_EVERY:
            await self.record(OperationState.RUNNING)

    async def record(self, state: OperationState) -> None:
        """Record how far it is. Raises nothing: it goes on, recorded or not."""
        self._sent_at = time.monotonic()
        self._operation = replace(self._operation, state=state, updated=milliseconds())
        arguments = [self._operation.number or "", MOST_KEPT, encode_operation(self._operation)]
        try:
            [number] = await scripts.run(self._redis, ScriptCall("operation", self._keys, arguments))
        except StokerError as error:
            _log.warning("operation not recorded", extra={"operation": self._operation.kind, "error": str(error)})
        else:
            self._operation = replace(self._operation, number=max(number, self._operation.number))


def begun(kind: str, queue: str, by: str, wanted: str = "") -> Operation:
    """An operation that begins now."""
    now = milliseconds()
    return Operation(kind, queue, by[:LONGEST], now, now, wanted[:LONGEST])


async def read_operations(redis: RedisClient, keys: Keys) -> list[Operation]:
    """The last operations, newest first. Raises RedisUnavailable or RedisRefused."""
    [values] = await scripts.run(redis, ScriptCall("operations", keys, [MOST_KEPT, MOST_BYTES]))
    found = [each for each in map(decode_operation, values) if each is not None]
    return sorted(found, key=lambda each: -each.number)
