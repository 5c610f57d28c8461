"""The decision in the simulation: the promised wait is held with few pods, and what cannot progress makes nothing flap."""

from collections.abc import Sequence
from random import Random

import pytest

from benchmarks.autoscaling.ours import Stoker
from stoker.autoscale.decide import Policy
from stoker.autoscale.simulate import Arrival, Result, Setup, simulate

SLOTS, MAX_WAIT = 4, 30.0


def scaled(arrivals: Sequence[Arrival], seconds: float, setup: Setup | None = None, **policy: float) -> Result:
    """The workload under the shipped decision."""
    scaler = Stoker(Policy(slots=SLOTS, max_wait=MAX_WAIT, max_replicas=50, **policy))
    return simulate(arrivals, scaler, setup or Setup(slots=SLOTS, startup=5.0, max_replicas=50), seconds)


def steady(rate: float, service: float, seconds: float) -> list[Arrival]:
    chance, now, found = Random(7), 0.0, []
    while (now := now + chance.expovariate(rate)) < seconds:
        found.append(Arrival(now, chance.expovariate(1 / service)))
    return found


def test_the_same_arrivals_give_the_same_result() -> None:
    arrivals = steady(5, 2, 300)
    assert scaled(arrivals, 300).course == scaled(arrivals, 300).course


def test_a_burst_from_zero_is_answered_at_once_and_in_time() -> None:
    burst = [Arrival(10.0, 2.0)] * 400
    result = scaled(burst, 200)
    assert result.misses(MAX_WAIT) == 0
    assert result.course[1][0] <= 11.0
    assert result.course[-1][1] == 0
    assert len(result.course) < 12


def test_a_steady_load_takes_little_more_than_its_work() -> None:
    arrivals = steady(20, 2, 1800)
    result = scaled(arrivals, 1800)
    work = sum(each.seconds for each in arrivals) / SLOTS
    assert result.misses(MAX_WAIT) == 0
    assert result.pod_seconds < 1.25 * work


def test_tasks_that_fall_due_find_their_workers() -> None:
    """A hundred tasks scheduled for one moment, and a start-up that would eat most of the promised wait."""
    arrivals = [Arrival(1.0, 2.0, 300.0)] * 100
    result = scaled(arrivals, 500, Setup(slots=SLOTS, startup=20.0, max_replicas=50))
    assert result.misses(MAX_WAIT) == 0
    assert next(at for at, pods in result.course if pods) < 300.0


def test_no_task_is_killed_and_no_pod_flaps_while_two_minute_tasks_run() -> None:
    arrivals = [Arrival(10.0 * number, 120.0) for number in range(60)]
    result = scaled(arrivals, 1200)
    assert (result.killed, result.misses(MAX_WAIT)) == (0, 0)


def test_an_outage_of_the_signal_changes_nothing() -> None:
    result = scaled(steady(20, 2, 600), 600, Setup(slots=SLOTS, startup=5.0, max_replicas=50, outages=((200.0, 320.0),)))
    assert not [at for at, _ in result.course if 200.0 <= at < 320.0]
    assert result.misses(MAX_WAIT) == 0


@pytest.mark.parametrize("quota", [0, 3])
def test_pods_that_never_start_do_not_make_the_number_flap(quota: int) -> None:
    """A quota: what is requested beyond it stays pending. The number may grow to what the backlog asks for, and stays there."""
    result = scaled(steady(20, 2, 900), 900, Setup(slots=SLOTS, startup=5.0, max_replicas=50, quota=quota))
    falls = [after < before for (_, before), (_, after) in zip(result.course, result.course[1:], strict=False)]
    assert sum(falls) <= 2
