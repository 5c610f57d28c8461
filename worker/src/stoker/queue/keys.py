"""The names of every Redis key of a queue. All share one hash tag, so a queue lives in one cluster slot."""

from dataclasses import dataclass

LAYOUT = 1
"""What the keys below hold, as one number. It grows only with a change that older versions would damage."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one place of a queue (see rules/partitions.py). The comment says the type and what a member or field holds."""

    namespace: str
    queue: str

    @property
    def _base(self) -> str:
        return f"{{{self.namespace}:{self.queue}}}"

    @property
    def ready(self) -> str:  # ZSET id -> place in line: priority level, then arrival
        return f"{self._base}:ready"

    @property
    def suspects(self) -> str:  # ZSET id -> place in line, of ready tasks that were lost with a worker before
        return f"{self._base}:suspects"

    @property
    def leases(self) -> str:  # ZSET id -> expiry, ms. The only definition of running
        return f"{self._base}:leases"

    @property
    def scheduled(self) -> str:  # ZSET id -> due, ms
        return f"{self._base}:scheduled"

    @property
    def dead(self) -> str:  # ZSET id -> buried at, ms
        return f"{self._base}:dead"

    @property
    def done(self) -> str:  # ZSET id -> when its result expires, ms
        return f"{self._base}:done"

    @property
    def cancelled(self) -> str:  # ZSET id -> cancelled at, ms
        return f"{self._base}:cancelled"

    @property
    def tasks(self) -> str:  # HASH id -> envelope (JSON), immutable
        return f"{self._base}:tasks"

    @property
    def owners(self) -> str:  # HASH id -> fence, a blank, the place in line it was taken from
        return f"{self._base}:owners"

    @property
    def attempts(self) -> str:  # HASH id -> failed attempts; absent = 0
        return f"{self._base}:attempts"

    @property
    def lost(self) -> str:  # HASH id -> deliveries lost with their worker; absent = 0
        return f"{self._base}:lost"

    @property
    def levels(self) -> str:  # HASH id -> priority level while scheduled or dead; absent = 0
        return f"{self._base}:levels"

    @property
    def errors(self) -> str:  # HASH id -> last failure (JSON)
        return f"{self._base}:errors"

    @property
    def cancels(self) -> str:  # HASH id -> when its cancellation was asked for, ms, while it runs
        return f"{self._base}:cancels"

    @property
    def results(self) -> str:  # HASH id -> result (JSON)
        return f"{self._base}:results"

    @property
    def uniques(self) -> str:  # HASH digest of a kind of task -> until when it is claimed, ms, a blank, the id that claims it
        return f"{self._base}:uniques"

    @property
    def claims(self) -> str:  # HASH id -> s (until it has started) or d (until it is done), a blank, the digest it claims
        return f"{self._base}:claims"

    @property
    def limits(self) -> str:  # HASH id -> how many with its concurrency key may run at a time, a blank, the key
        return f"{self._base}:limits"

    @property
    def running_by(self) -> str:  # ZSET of concurrency key US id, of running tasks that have one
        return f"{self._base}:running_by"

    @property
    def parked(self) -> str:  # ZSET id -> place in line, of ready tasks whose concurrency key has no room
        return f"{self._base}:parked"

    @property
    def parked_by(self) -> str:  # ZSET of concurrency key US place US id, of parked tasks: each key's own line
        return f"{self._base}:parked_by"

    @property
    def members(self) -> str:  # HASH id -> its place in a group: the join's queue, a blank, the join's id, a blank, its number
        return f"{self._base}:members"

    @property
    def joins(self) -> str:  # HASH id of a join -> what follows when its members have arrived (see lua/_effects.lua)
        return f"{self._base}:joins"

    @property
    def waiting(
        self,
    ) -> str:  # HASH id of a join -> members missing, bytes of results so far, the most of them, members
        return f"{self._base}:waiting"

    @property
    def arrivals(self) -> str:  # HASH id of a join US number of a member -> its result (JSON)
        return f"{self._base}:arrivals"

    @property
    def outbox(self) -> str:  # STREAM of what follows in other queues, or in several steps, until a worker has relayed it
        return f"{self._base}:outbox"

    @property
    def relayed(self) -> str:  # ZSET key of a relayed item -> until when it is remembered, ms
        return f"{self._base}:relayed"

    @property
    def history(self) -> str:  # HASH id -> its last failures in short (JSON), a line each, newest last
        return f"{self._base}:history"

    @property
    def progress(self) -> str:  # HASH id -> fence, a blank, how far the delivery has come (JSON)
        return f"{self._base}:progress"

    @property
    def logs(self) -> str:  # HASH id -> the last lines that it logged
        return f"{self._base}:logs"

    @property
    def events(self) -> str:  # STREAM of what happens to tasks, while somebody watches
        return f"{self._base}:events"

    @property
    def schedules(self) -> str:  # HASH of "column name" for each schedule, and "source ..." for who declares them
        return f"{self._base}:schedules"

    @property
    def upcoming(self) -> str:  # ZSET name of a schedule -> when its next run is due, ms
        return f"{self._base}:upcoming"

    @property
    def runs(self) -> str:  # HASH name of a schedule -> id of its last run, until somebody has noted how it ended
        return f"{self._base}:runs"

    @property
    def meta(self) -> str:  # HASH: paused, fence counter, logical clock, last arrival, layout, until when there is an audience
        return f"{self._base}:meta"

    @property
    def stats(self) -> str:  # HASH of monotonic counters and the completion rate
        return f"{self._base}:stats"

    @property
    def workers(self) -> str:  # HASH worker -> what it says of itself (JSON)
        return f"{self._base}:workers"

    @property
    def beats(self) -> str:  # ZSET worker -> when it counts as gone, ms
        return f"{self._base}:beats"

    @property
    def wake(self) -> str:  # LIST of at most one token; idle workers block on it
        return f"{self._base}:wake"

    @property
    def inbox(self) -> str:  # STREAM of tasks that other programs XADD: task, payload, id, priority, delay
        return f"{self._base}:inbox"


def catalogue(namespace: str) -> str:
    """SET of the names of all queues ever used in a namespace. Outside every queue's slot."""
    return f"{{{namespace}}}:queues"


def partition_counts(namespace: str) -> str:
    """HASH queue -> how many partitions it has; absent = 1. In the slot of the catalogue."""
    return f"{{{namespace}}}:partitions"
