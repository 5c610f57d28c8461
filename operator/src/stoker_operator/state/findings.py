"""What is known about one TaskQueue, as immutable values: from the cluster, from Redis, and from the autoscaler."""

from typing import NamedTuple

from msgspec import Struct

from stoker.autoscale.decide import Memory
from stoker.manifest.task_queue import TaskQueue
from stoker.queue.records import QueueStats
from stoker.rules.identity import QueueId
from stoker_operator.state.problem import NOT_SERVED, Problem


class Trial(Struct, frozen=True):
    """The pods of the newest version: how many there are, how many fail, what is wrong with the first of these, and what it wrote
    last. `proven`: all have been ready for a while."""

    pods: int = 0
    failing: int = 0
    example: str = ""
    last_words: str = ""
    proven: bool = False


class Workers(Struct, frozen=True):
    """The Deployment: `replicas` requested, `pods` that exist, `ready` ones among them, why pods cannot start, and the hash
    of its pod template. `rollout`: what is missing while not all pods are of the newest version. `restarts`: of pods that are not
    ready. `terminating`: the Deployment is being deleted. `scaled_by`: who set `replicas`, empty for the operator. `draining`: pods
    that terminate, beside `pods`; 0 where Kubernetes does not count them. `trial`: of the newest version. `paused`: why its rollout
    is paused. `updated`: those of `pods` that are of the newest version.
    """

    uid: str
    replicas: int
    pods: int
    ready: int
    failing: Problem | None = None
    template: str = ""
    rollout: str = ""
    restarts: str = ""
    terminating: bool = False
    scaled_by: str = ""
    draining: int = 0
    trial: Trial = Trial()
    paused: Problem | None = None
    updated: int = 0


class LeftBehind(Struct, frozen=True):
    """Tasks in the Redis that a TaskQueue has left: how many, and why there may be more that cannot be counted."""

    tasks: int
    unread: Problem | None = None


class RedisQueue(NamedTuple):
    """A queue in Redis: the server's URL, and the manifest that describes the queue."""

    url: str
    manifest: TaskQueue

    @property
    def id(self) -> QueueId:
        """The queue, which is also its first partition."""
        return QueueId(self.manifest.key_namespace, self.manifest.queue)

    @property
    def partitions(self) -> list[QueueId]:
        """All its partitions."""
        return [QueueId(self.manifest.key_namespace, partition) for partition in self.manifest.partitions]


class Findings(Struct, frozen=True):
    """What the last reconcile found. `problem`: why the spec is not in force.

    `manifest` is what the workers run by. While the spec has a problem it is that of generation `last_good`, the last one that was
    applied, if it is known. `redis_url` is empty if unknown. `contested`: who changes the Deployment back.
    `incomplete`: why an object beside the Deployment is not as the spec asks.
    """

    uid: str
    generation: int
    manifest: TaskQueue | None = None
    redis_url: str = ""
    workers: Workers | None = None
    problem: Problem | None = None
    suspended: bool = False
    last_good: int | None = None
    contested: Problem | None = None
    left_behind: LeftBehind | None = None
    incomplete: Problem | None = None

    @property
    def source(self) -> RedisQueue | None:
        """The queue to read, if this TaskQueue may: a queue that another TaskQueue serves is read for that one."""
        not_served = self.problem is not None and self.problem.reason in NOT_SERVED
        return None if self.manifest is None or not self.redis_url or not_served else RedisQueue(self.redis_url, self.manifest)

    @property
    def scalable(self) -> Workers | None:
        """The workers that the autoscaler may scale, if any: also while a newer spec cannot be applied, by the last good one."""
        in_force = self.problem is None or self.last_good is not None
        terminating = self.workers is not None and self.workers.terminating
        return self.workers if in_force and self.source is not None and not self.suspended and not terminating else None


class Reading(Struct, frozen=True):
    """One read of the queue: its statistics, or the problem that prevented it. Neither: not read yet."""

    stats: QueueStats | None = None
    problem: Problem | None = None


class ScaleChange(Struct, frozen=True):
    """The last change of the number of replicas. `at` is an RFC 3339 timestamp."""

    at: str
    before: int
    after: int
    reason: str


class Scaling(Struct, frozen=True):
    """The autoscaler's last decision: replicas and why, the memory for the next one, the last change, a rejected write."""

    desired: int
    reason: str
    memory: Memory
    change: ScaleChange | None = None
    refused: Problem | None = None


class Snapshot(NamedTuple):
    """Everything known about one TaskQueue at one moment. `starting_for`: seconds since workers were asked for, while none is
    ready. `rescaled`: who else scales the workers, which the operator therefore does not.
    """

    findings: Findings
    reading: Reading
    scaling: Scaling | None
    starting_for: float = 0.0
    rescaled: Problem | None = None

    @property
    def settled(self) -> bool:
        """Whether the queue has been read, and the autoscaler has decided, where they may."""
        if self.findings.source is None:
            return True
        if self.reading.problem is not None:
            return True
        return self.reading.stats is not None and (self.scaling is not None or self.findings.scalable is None)

    @property
    def desired_replicas(self) -> int:
        """What the autoscaler wants where it may act, else what the Deployment asks for."""
        if self.scaling is not None and self.findings.scalable is not None and self.rescaled is None:
            return self.scaling.desired
        return self.findings.workers.replicas if self.findings.workers else 0
