"""Launch a workflow that begins with a group. One that begins with a task is enqueued as any task is."""

from contextlib import suppress

from stoker.errors import StokerError
from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.partitions import Partitions
from stoker.queue.workflows.effects import Keyed, launch_call
from stoker.queue.workflows.outbox import Outbox
from stoker.redis.client import RedisClient
from stoker.rules.effects import PutInOutbox, begin_or_defer
from stoker.rules.partitions import PartitionKey
from stoker.rules.workflow import OutboxEntry, home_queue


async def launch(redis: RedisClient, namespace: str, partitions: Partitions, entry: OutboxEntry) -> None:
    """Begin the entry's chain in one script, or put it into an outbox in one script and relay it now. Safe to repeat.

    Raises RedisUnavailable or RedisRefused.
    """
    locate = await partitions.locator([entry.steps])
    keys = Keys(namespace, locate(home_queue(entry.steps), PartitionKey(entry.key)))
    outbox = Outbox(redis, keys)
    await outbox.register(keys.queue)
    effects = begin_or_defer(keys.queue, entry, locate)
    keyed = [Keyed(f"{entry.key} {at}", effect) for at, effect in enumerate(effects)]
    await scripts.run(redis, launch_call(keys, keyed))
    if any(isinstance(effect, PutInOutbox) for effect in effects):
        with suppress(StokerError):  # the entry is safe in the outbox: any worker of this queue relays it
            await outbox.relay(await outbox.read())
