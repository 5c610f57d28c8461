"""The identity of a queue: two queues of one name in two namespaces have no key in common."""

from typing import NamedTuple


class QueueId(NamedTuple):
    """A queue, or one partition of it. In Kubernetes `namespace` is the TaskQueue's, unless spec.redis.namespace says otherwise."""

    namespace: str
    name: str
