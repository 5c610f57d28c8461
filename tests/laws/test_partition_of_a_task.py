"""Which partition of a queue a task belongs to."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.errors import Invalid
from stoker.queue.reads.statistics import together
from stoker.queue.records import QueueStats, Totals
from stoker.rules.partitions import MOST, PartitionKey, partition_names, partition_of, share

ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def test_the_first_partition_is_the_queue_itself():
    assert partition_names("emails", 1) == ["emails"]
    assert partition_names("emails", 3) == ["emails", "emails:1", "emails:2"]


@given(ids, st.integers(1, MOST))
def test_an_id_has_one_partition(task_id: str, partitions: int):
    names = partition_names("emails", partitions)
    assert partition_of(PartitionKey(task_id), names) == partition_of(PartitionKey(task_id), names) in names


@given(ids, ids, ids, st.integers(2, MOST))
def test_what_is_counted_together_lies_together(one: str, other: str, key: str, partitions: int):
    names = partition_names("emails", partitions)
    assert partition_of(PartitionKey(one, claim=key), names) == partition_of(PartitionKey(other, claim=key), names)
    assert partition_of(PartitionKey(one, limit=key), names) == partition_of(PartitionKey(other, limit=key), names)


def test_a_unique_task_with_a_concurrency_key_is_refused_where_there_are_several_partitions():
    assert partition_of(PartitionKey("a", "digest", "key"), partition_names("emails", 1)) == "emails"
    with pytest.raises(Invalid, match="either unique or has a concurrency key, not both"):
        partition_of(PartitionKey("a", "digest", "key"), partition_names("emails", 2))


def test_ids_spread_evenly():
    names = partition_names("emails", 4)
    count = Counter(partition_of(PartitionKey(f"task-{number}"), names) for number in range(4000))
    assert min(count.values()) > 900
    assert set(count) == set(names)


@given(st.integers(1, 1000), st.integers(1, MOST))
def test_slots_are_shared_out_evenly(slots: int, partitions: int):
    shares = [share(slots, partitions, number) for number in range(partitions)]
    assert min(shares) >= 1
    assert max(shares) - min(shares) <= 1
    assert sum(shares) == max(slots, partitions)


def stats(**fields: object) -> QueueStats:
    numbers = {"ready": 1, "running": 2, "scheduled": 3, "dead": 4, "succeeded": 5, "cancelled": 6, "due": 7, "workers": 2}
    rest = {"oldest_wait": 1.5, "paused": False, "completion_rate": 10.0}
    return QueueStats(**{"queue": "emails", **numbers, **rest, **fields})  # type: ignore[arg-type]


def test_partitions_together_are_the_queue():
    whole = together(
        [stats(oldest_wait=9.0), stats(queue="emails:1", paused=True, throttled=True, workers=3, totals=Totals(enqueued=5))]
    )
    assert (whole.queue, whole.ready, whole.running, whole.dead, whole.totals.enqueued) == ("emails", 2, 4, 8, 5)
    assert (whole.oldest_wait, whole.workers, whole.completion_rate) == (9.0, 3, 20.0)
    assert whole.throttled
    assert not whole.paused, "the rest of it still runs"
