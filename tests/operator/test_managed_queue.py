"""What is known of one TaskQueue: three loops that overlap write it, and the newest word on each part stands."""

from stoker.autoscale.decide import Decision, Memory, ScalingReason
from stoker.queue.records import QueueStats
from stoker_operator.state.findings import Findings, Reading, ScaleChange, Workers
from stoker_operator.state.managed_queue import ManagedQueue
from stoker_operator.state.problem import Problem, Reason
from stoker_operator.state.queue_store import QueueStore
from tests.operator.observed import REF, task_queue

MEMORY = Memory(since=0, busy_at=0)
STATS = QueueStats("emails", 3, 2, 1, 4, 0, 0, 0, 83.6, 1, False, 0.5)


def found(replicas: int = 2, uid: str = "uid-1", **spec: object) -> Findings:
    manifest = task_queue(**spec)
    workers = Workers("d", replicas, replicas, replicas)
    return Findings(uid, 7, manifest, "redis://redis", workers, suspended=manifest.spec.suspend)


def decision(replicas: int) -> Decision:
    return Decision(replicas, ScalingReason.SCALE_UP, replicas, MEMORY)


def replicas(queue: ManagedQueue) -> int:
    assert queue.findings.workers
    return queue.findings.workers.replicas


def test_a_scale_counts_at_once() -> None:
    queue = ManagedQueue(REF, found(2), {})
    queue.scaled(decision(5), before=2, timestamp="noon", now=10)
    assert replicas(queue) == 5
    assert queue.scaling
    assert queue.scaling.change == ScaleChange("noon", 2, 5, "ScaleUp")


def test_a_reconcile_that_began_before_a_scale_does_not_undo_it() -> None:
    queue = ManagedQueue(REF, found(2), {})
    queue.scaled(decision(5), before=2, timestamp="noon", now=10)
    queue.observed(found(2), {}, began=9)
    assert replicas(queue) == 5
    queue.observed(found(2), {}, began=11)
    assert replicas(queue) == 2


def test_a_reconcile_that_began_before_a_status_write_does_not_bring_the_old_status_back() -> None:
    queue = ManagedQueue(REF, found(), {"replicas": 1})
    queue.status_written({"replicas": 2}, "7", now=10)
    queue.observed(found(), {"replicas": 1}, began=9)
    assert queue.status == {"replicas": 2}
    queue.observed(found(), {"replicas": 3}, began=11)
    assert queue.status == {"replicas": 3}


def test_a_refused_scale_is_kept_until_the_next_decision() -> None:
    queue = ManagedQueue(REF, found(2), {})
    queue.scaled(decision(3), before=2, timestamp="noon", now=10)
    queue.scale_refused(decision(5), Problem(Reason.SCALE_REFUSED, "no"))
    assert replicas(queue) == 3
    assert queue.scaling
    assert queue.scaling.refused
    assert queue.scaling.change
    queue.decided(decision(3))
    assert queue.scaling.refused is None
    assert queue.scaling.change == ScaleChange("noon", 2, 3, "ScaleUp")


def test_desired_is_the_autoscalers_number_only_where_it_may_act() -> None:
    queue = ManagedQueue(REF, found(2), {})
    assert queue.snapshot.desired_replicas == 2
    queue.decided(decision(5))
    assert queue.snapshot.desired_replicas == 5
    queue.observed(found(2, suspend=True), {}, began=1)
    assert queue.snapshot.desired_replicas == 2


def test_a_taskqueue_that_was_created_again_starts_clean() -> None:
    store = QueueStore()
    first = store.observed(REF, found(), {}, began=1)
    first.read(Reading(STATS))
    assert store.observed(REF, found(), {}, began=2) is first
    second = store.observed(REF, found(uid="uid-2"), {}, began=3)
    assert second is not first
    assert second.reading == Reading()
    store.forget(REF)
    assert store.get(REF) is None


def test_only_queues_that_may_be_read_are_grouped_by_their_redis() -> None:
    store = QueueStore()
    for at, problem in enumerate((None, Reason.WORKERS_REFUSED, Reason.QUEUE_TAKEN, Reason.DELETING)):
        findings = Findings("u", 1, task_queue(), "redis://redis", problem=Problem(problem, "x") if problem else None)
        store.observed(REF._replace(name=f"queue-{at}"), findings, {}, began=1)
    store.observed(REF._replace(name="no-url"), Findings("u", 1, task_queue()), {}, began=1)
    store.observed(REF._replace(name="no-spec"), Findings("u", 1, None, "redis://redis"), {}, began=1)
    grouped = {url: [queue.ref.name for queue in queues] for url, queues in store.by_redis().items()}
    assert grouped == {"redis://redis": ["queue-0", "queue-1"]}


def test_a_start_counts_from_when_workers_are_asked_for_until_one_is_ready() -> None:
    def seen(pods: int, ready: int, now: float) -> float:
        queue.observed(Findings("uid-1", 7, task_queue(), "redis://redis", Workers("d", pods, pods, ready)), {}, began=now)
        return queue.snapshot_at(now).starting_for

    queue = ManagedQueue(REF, found(0), {})
    assert [seen(0, 0, 10), seen(2, 0, 20), seen(3, 0, 50), seen(3, 1, 60), seen(3, 0, 70), seen(3, 0, 75)] == [0, 0, 30, 0, 0, 5]
