"""The namespace of each TaskQueue on one machine, where no cluster gives it one."""

from collections.abc import Sequence

from msgspec.structs import replace

from stoker.errors import Invalid
from stoker.manifest.redis_ref import RedisRef
from stoker.manifest.task_queue import TaskQueue
from stoker.settings import DEFAULT_NAMESPACE


def settled(queues: Sequence[TaskQueue], namespace: str = "") -> list[TaskQueue]:
    """The TaskQueues with a key namespace: `namespace` if given, else the manifest's, else `stoker`.

    Raises Invalid for two of one name, which would share their logs and the names of their workers.
    """
    names = [queue.name for queue in queues]
    for name in names:
        if names.count(name) > 1:
            raise Invalid(f"two TaskQueues are named {name!r}: run them apart, with one file and one --data for each stoker up")
    return [_within(queue, namespace) for queue in queues]


def _within(queue: TaskQueue, namespace: str) -> TaskQueue:
    if namespace:
        return replace(queue, namespace=namespace, spec=replace(queue.spec, redis=RedisRef()))
    return queue if queue.key_namespace else replace(queue, namespace=DEFAULT_NAMESPACE)
