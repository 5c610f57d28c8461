"""The names of all Redis keys. Those of one partition share a hash tag, so a script's keys lie in one cluster slot."""

from dataclasses import dataclass

LAYOUT = 1
"""Version of the layout of the keys below. Raised only by a change that older versions would damage."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one partition of a queue (rules/partitions.py). Comments: type, then member -> score or field -> value.

    Scripts name these attributes in their headers, and see the keys under the same names.
    """

    namespace: str
    queue: str

    @property
    def _base(self) -> str:
        return f"{{{self.namespace}:{self.queue}}}"

    @property
    def ready(self) -> str:  # ZSET id -> rank: priority level, then arrival
        return f"{self._base}:ready"

    @property
    def suspects(self) -> str:  # ZSET id -> rank, of ready tasks that were lost more than once
        return f"{self._base}:suspects"

    @property
    def leases(self) -> str:  # ZSET id -> expiry, ms. The only definition of running
        return f"{self._base}:leases"

    @property
    def scheduled(self) -> str:  # ZSET id -> due, ms
        return f"{self._base}:scheduled"

    @property
    def delayed(self) -> str:  # ZSET id, US, due -> when its delay ends however the real clock is set, ms
        return f"{self._base}:delayed"

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
    def owners(self) -> str:  # HASH id -> fence, a blank, the rank it was fetched at
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
    def cancels(self) -> str:  # HASH id of a running task -> when its cancellation was requested, ms
        return f"{self._base}:cancels"

    @property
    def results(self) -> str:  # HASH id -> result (JSON)
        return f"{self._base}:results"

    @property
    def uniques(self) -> str:  # HASH digest of a uniqueness key -> end of the claim, ms, a blank, the id that holds it
        return f"{self._base}:uniques"

    @property
    def claims(self) -> str:  # HASH id -> s (claimed until started) or d (until done), a blank, the digest
        return f"{self._base}:claims"

    @property
    def limits(self) -> str:  # HASH id -> most running tasks of its concurrency key, a blank, the key
        return f"{self._base}:limits"

    @property
    def running_by(self) -> str:  # ZSET concurrency key US id, of running tasks
        return f"{self._base}:running_by"

    @property
    def parked(self) -> str:  # ZSET id -> rank, of ready tasks whose concurrency key is full
        return f"{self._base}:parked"

    @property
    def parked_by(self) -> str:  # ZSET concurrency key US rank US id, of parked tasks
        return f"{self._base}:parked_by"

    @property
    def unclaimed(self) -> str:  # ZSET id -> since when, ms, of ready tasks that no living worker knows
        return f"{self._base}:unclaimed"

    @property
    def unclaimed_by(self) -> str:  # ZSET name of the task US its version US id, of unclaimed tasks
        return f"{self._base}:unclaimed_by"

    @property
    def unclaimed_as(self) -> str:  # HASH id -> rank, version, template that did not know it, name, of unclaimed tasks
        return f"{self._base}:unclaimed_as"

    @property
    def templates(self) -> str:  # ZSET template of workers -> until when it has seen the unclaimed tasks, ms
        return f"{self._base}:templates"

    @property
    def announced(self) -> str:  # HASH template -> names of the tasks that its workers know and their versions (JSON); empty = any
        return f"{self._base}:announced"

    @property
    def schemas(self) -> str:  # HASH template -> digest, a blank, JSON Schemas of its tasks' parameters and its hooks (JSON)
        return f"{self._base}:schemas"

    @property
    def hooks(self) -> str:  # HASH name of a task ("" = any other) -> template, a blank, the step (JSON) that handles its death
        return f"{self._base}:hooks"

    @property
    def members(self) -> str:  # HASH id of a group's member -> home queue of the join, a blank, id of the join, a blank, its number
        return f"{self._base}:members"

    @property
    def joins(self) -> str:  # HASH id of a join -> what follows when its members have arrived (see lua/_effects.lua)
        return f"{self._base}:joins"

    @property
    def waiting(
        self,
    ) -> str:  # HASH id of a join -> members missing, bytes of results, most bytes, members
        return f"{self._base}:waiting"

    @property
    def arrivals(self) -> str:  # HASH id of a join US number of a member -> its result (JSON)
        return f"{self._base}:arrivals"

    @property
    def outbox(self) -> str:  # STREAM of what follows in other partitions, or in several steps, until a worker has relayed it
        return f"{self._base}:outbox"

    @property
    def relayed(self) -> str:  # ZSET key of a relayed effect -> until when it is remembered, ms
        return f"{self._base}:relayed"

    @property
    def history(self) -> str:  # HASH id -> its last failures, shortened (JSON lines), newest last
        return f"{self._base}:history"

    @property
    def progress(self) -> str:  # HASH id -> fence, a blank, progress of the delivery (JSON)
        return f"{self._base}:progress"

    @property
    def logs(self) -> str:  # HASH id -> its last log lines
        return f"{self._base}:logs"

    @property
    def events(self) -> str:  # STREAM of what happens to tasks, written while it is watched
        return f"{self._base}:events"

    @property
    def schedules(self) -> str:  # HASH "column name" of each schedule, and "source name" of each source that declares schedules
        return f"{self._base}:schedules"

    @property
    def upcoming(self) -> str:  # ZSET name of a schedule -> when its next run is due, ms
        return f"{self._base}:upcoming"

    @property
    def runs(self) -> str:  # HASH name of a schedule -> id of its last run, until its end is recorded
        return f"{self._base}:runs"

    @property
    def minutes(self) -> str:  # HASH slot of a ring -> runs of a minute or ten (MessagePack), and place -> last flush of a worker
        return f"{self._base}:minutes"

    @property
    def versions(self) -> str:  # HASH version of workers -> its runs, first and last seen (MessagePack)
        return f"{self._base}:versions"

    @property
    def decisions(self) -> str:  # STREAM of the autoscaler's decisions (JSON)
        return f"{self._base}:decisions"

    @property
    def audit(self) -> str:  # STREAM of acts of people (JSON)
        return f"{self._base}:audit"

    @property
    def operations(
        self,
    ) -> str:  # HASH slot of a ring -> number, a blank, an operation (JSON). Of the namespace
        return f"{{{self.namespace}}}:operations"

    @property
    def meta(
        self,
    ) -> str:  # HASH paused, fence counter, clock, last arrival, layout, watching, rate limit, clearer, claim, max_wait
        return f"{self._base}:meta"

    @property
    def stats(self) -> str:  # HASH monotonic counters, and the completion rate
        return f"{self._base}:stats"

    @property
    def workers(self) -> str:  # HASH worker -> its report (JSON)
        return f"{self._base}:workers"

    @property
    def beats(self) -> str:  # ZSET worker -> when it counts as dead, ms
        return f"{self._base}:beats"

    @property
    def wake(self) -> str:  # LIST of at most one token; idle workers block on it
        return f"{self._base}:wake"

    @property
    def inbox(self) -> str:  # STREAM of tasks that other programs XADD; fields: see rules/inbox_entry.py
        return f"{self._base}:inbox"


def catalogue(namespace: str) -> str:
    """SET of the names of all partitions ever used in a namespace. Not in a partition's slot."""
    return f"{{{namespace}}}:queues"


def partition_counts(namespace: str) -> str:
    """HASH queue -> number of its partitions; absent = 1. In the slot of the catalogue."""
    return f"{{{namespace}}}:partitions"
