"""Make a task die, the way a worker does it."""

from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.queue.settlements import Settlement
from stoker.redis.connect import connect
from stoker.rules.settle import Bury, Failure


async def bury_next(redis_url: str, queue: str, message: str = "it broke", namespace: str = "test", count: int = 1) -> list[str]:
    """Take the next ready tasks and bury them. Returns their ids."""
    redis = connect(redis_url)
    try:
        broker = Broker(redis, Keys(namespace, queue))
        deliveries = (await broker.turn([], count, "worker-1")).deliveries
        failure = Failure("ValueError", message, "Traceback: here")
        await broker.turn([Settlement(one.id, one.fence, Bury(failure)) for one in deliveries], 0, "worker-1")
        return [one.id for one in deliveries]
    finally:
        await redis.aclose()
