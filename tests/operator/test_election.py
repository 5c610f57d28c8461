"""Whether a candidate may take the Lease, and the guard before each write."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from stoker.rules.identity import Holder, QueueId
from stoker_operator.cluster_access import connect
from stoker_operator.election.lease import (
    Record,
    Sighting,
    Timing,
    free,
    new_lease,
    record_of,
    released,
    renewed,
    sighted,
    taken,
    with_record,
)
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.state.ref import DEPLOYMENTS, Ref
from stoker_operator.state.write_guard import NotLeader, WriteGuard
from tests.operator.apiserver import ApiServer
from tests.operator.operating import Cluster, unique

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
TIMING = Timing.of(15)
HELD = taken(Record(), "a", TIMING, NOON)


def test_the_times_are_those_of_client_go() -> None:
    assert Timing.of(15)[:3] == (15, 10, 2)


@pytest.mark.parametrize(
    ("record", "seen_for", "expected"),
    [
        pytest.param(HELD, 14.9, False, id="a leader that may still renew"),
        pytest.param(HELD, 15.0, True, id="no renewal for the whole duration"),
        pytest.param(released(HELD, NOON), 0.0, True, id="released"),
        pytest.param(Record(), 0.0, True, id="a Lease without a holder"),
    ],
)
def test_when_a_candidate_may_take_the_lease(record: Record, seen_for: float, expected: bool) -> None:
    assert free(Sighting(record, 100.0), 100.0 + seen_for) is expected


def test_only_a_change_that_was_seen_starts_the_wait_again() -> None:
    """Whatever the clock of the leader's machine writes into it."""
    first = sighted(None, HELD, 10.0)
    assert sighted(first, HELD, 20.0).at == 10.0
    assert sighted(first, renewed(HELD, datetime(1999, 1, 1, tzinfo=UTC)), 20.0).at == 20.0


def test_a_lease_is_written_as_other_tools_read_it() -> None:
    lease = with_record({**new_lease("shop", "stoker-operator"), "spec": {"strategy": "x"}}, HELD)
    assert lease["spec"] == {
        "strategy": "x",
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": "2030-01-01T12:00:00.000000Z",
        "renewTime": "2030-01-01T12:00:00.000000Z",
        "leaseTransitions": 0,
    }
    assert record_of(lease) == HELD
    assert taken(HELD, "b", TIMING, NOON).transitions == 1


def clock(*moments: float) -> Any:
    passed: Iterator[float] = iter(moments)
    return lambda: next(passed, moments[-1])


async def test_a_leader_that_freezes_while_it_connects_does_not_send_its_request(
    api_server: ApiServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    guard = WriteGuard(clock(0.0, 100.0))  # the second look is that of the step that writes
    guard.allow(10.0)
    kube = await connect(guard)
    ref = Ref(cluster.namespace, unique("emails"))
    with pytest.raises(NotLeader):
        await kube.create(DEPLOYMENTS, ref.namespace, {"metadata": {"name": ref.deployment}, "spec": {}})
    with pytest.raises(NotLeader):
        await kube.create_event(cluster.namespace, {})
    assert await kube.objects(DEPLOYMENTS, cluster.namespace) == []  # reading is allowed
    await kube.close()


async def test_a_former_leader_writes_nothing_to_redis(redis_url: str, cluster: Cluster) -> None:
    frozen, guard = WriteGuard(clock(0.0, 100.0)), WriteGuard()  # the second look is that of the command
    frozen.allow(10.0)
    queue = QueueId(cluster.namespace, "emails")
    one, other = (Holder("cluster", cluster.namespace, "emails", uid) for uid in ("one", "other"))
    late, pool = RedisPool(2.0, guard=frozen), RedisPool(2.0, guard=guard)
    with pytest.raises(NotLeader):
        await late.claim(redis_url, queue, one)
    assert await pool.claim(redis_url, queue, other) == other
    guard.close()
    await pool.release(redis_url, queue, other)  # raises nothing: the claim stays
    assert await pool.reap(redis_url, queue, "host", 3) is None
    [reading] = await pool.read(redis_url, [[queue]])
    assert reading.stats is not None
    unguarded = RedisPool(2.0)
    assert await unguarded.claim(redis_url, queue, one) == other
    for each in (late, pool, unguarded):
        await each.close()
