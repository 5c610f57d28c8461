"""Settings: every one a flag and a `STOKER_*` variable, with one default for both.

The operator and `stoker up` write a worker's environment here; the command line reads it back.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from stoker.manifest.policies import Lease, RateLimit, Retention
from stoker.manifest.task_queue import TaskQueue
from stoker.rules.retry import Retry
from stoker.rules.shares import QueueWeight
from stoker.rules.units import format_duration

PREFIX = "STOKER_"
DEFAULT_REDIS_URL = "redis://localhost:6379/0"
DEFAULT_NAMESPACE = "stoker"
DEFAULT_WORKER_PORT = 9090
DEFAULT_GATEWAY_PORT = 8080

LogFormat = Literal["auto", "json", "text"]
LogTasks = Literal["all", "auto", "failures", "none"]
"""Which runs have a line in the log; auto: all while there are few, a summary a second of what succeeds where there are more."""


class ChildLimits(Struct, frozen=True):
    """Limits of child processes: `count` of them (0: one a slot); `max_runs` and `max_memory` bytes of each (0: no limit)."""

    count: int = 0
    max_runs: int = 0
    max_memory: int = 0

    def worn(self, runs: int, memory: int) -> bool:
        """Whether a child must be replaced after its run."""
        return 0 < self.max_runs <= runs or 0 < self.max_memory < memory


class WorkerSettings(Struct, frozen=True):
    """The settings of a worker process. Times in seconds. `app` is the `module:attribute` that its children import.

    `max_memory` in bytes, `max_tasks` of a process (0: no limit); `threads` for plain functions, of all queues (0: one a slot);
    `burst`: exit when the queues are empty; `template` stands for workers that know the same tasks (rules/announcement.py);
    `queues` are those of a worker that serves several (`strict`: in this order, else by weight): `queue` is '' then. With neither
    it serves the queues of the application's tasks. `listen_fd` a socket that whoever started it listens on for its page.
    """

    queue: str
    app: str = ""
    redis_url: str = DEFAULT_REDIS_URL
    namespace: str = DEFAULT_NAMESPACE
    partitions: int = 1
    concurrency: int = 16
    task_timeout: float = 600.0
    drain_timeout: float = 660.0
    retry: Retry = Retry()
    lease: Lease = Lease()
    retention: Retention = Retention()
    rate_limit: RateLimit | None = None
    host: str = "127.0.0.1"
    port: int = DEFAULT_WORKER_PORT
    name: str = ""
    children: ChildLimits = ChildLimits()
    max_memory: int = 0
    template: str = ""
    listen_fd: int | None = None
    log_tasks: LogTasks = "auto"
    queues: tuple[QueueWeight, ...] = ()
    strict: bool = False
    burst: bool = False
    max_tasks: int = 0
    threads: int = 0


def tracing_environment(queue: TaskQueue) -> dict[str, str]:
    """The variables of OpenTelemetry by which workers export traces. None without an endpoint."""
    tracing = queue.spec.observability.tracing
    if not tracing.endpoint:
        return {}
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": tracing.endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": f"{tracing.sample_percent / 100:g}",
    }


def worker_environment(queue: TaskQueue, namespace: str) -> dict[str, str]:
    """A worker's environment from a TaskQueue. Without the Redis URL: it may be secret."""
    spec = queue.spec
    values: Mapping[str, object] = {
        "APP": spec.worker.app,
        "NAMESPACE": namespace,
        "QUEUE": queue.queue,
        "PARTITIONS": spec.queue.partitions,
        "PROCESSES": spec.worker.processes,
        "CONCURRENCY": spec.worker.concurrency,
        "TASK_TIMEOUT": format_duration(spec.worker.task_timeout),
        "DRAIN_TIMEOUT": format_duration(spec.worker.drain_timeout),
        "MAX_RETRIES": spec.retry.max_retries,
        "INITIAL_DELAY": format_duration(spec.retry.initial_delay),
        "MULTIPLIER": repr(float(spec.retry.multiplier)).removesuffix(".0"),
        "MAX_DELAY": format_duration(spec.retry.max_delay),
        "JITTER": spec.retry.jitter.value,
        "LEASE": format_duration(spec.lease.duration),
        "MAX_LOST": spec.lease.max_lost,
        "KEEP_SUCCEEDED": format_duration(spec.retention.succeeded.age),
        "KEEP_SUCCEEDED_COUNT": spec.retention.succeeded.count,
        "KEEP_DEAD": format_duration(spec.retention.dead.age),
        "KEEP_DEAD_COUNT": spec.retention.dead.count,
        "KEEP_UNCLAIMED": format_duration(spec.retention.unclaimed.age),
        "RATE_LIMIT": spec.rate_limit.per_second if spec.rate_limit else 0,
        "RATE_BURST": spec.rate_limit.burst if spec.rate_limit else 0,
    }
    return {PREFIX + name: str(value) for name, value in values.items() if value != ""}
