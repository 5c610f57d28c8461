"""What is learned of a queue: arrival rate, service time, the start-up of pods."""

from collections.abc import Iterator
from random import Random

import pytest

from stoker.autoscale.estimate import FIRST_STARTUP, Estimates, Sample, first_estimates, observe


def followed(samples: Iterator[tuple[float, Sample]], prior: float = 5.0) -> Estimates:
    """The estimates after these samples, each with its moment."""
    now, sample = next(samples)
    found = first_estimates(sample, prior, now)
    for now, sample in samples:
        after = observe(found, sample, now)
        assert after is not None
        found = after
    return found


def steady(rate: float, service: float, seconds: int) -> Iterator[tuple[float, Sample]]:
    """A queue whose workers keep up: by Little's law rate x service runs at a time."""
    for now in range(seconds):
        started = rate * now
        yield float(now), Sample(round(started), round(max(0.0, started - rate * service)), round(min(started, rate * service)))


@pytest.mark.parametrize(("rate", "service"), [(10.0, 2.0), (100.0, 0.2), (2.0, 30.0)])
def test_a_steady_queue_is_learned(rate: float, service: float) -> None:
    found = followed(steady(rate, service, 600))
    assert found.rate == pytest.approx(rate, rel=0.05)
    assert found.service_time == pytest.approx(service, rel=0.1)


def test_growth_is_seen_within_seconds_and_a_lull_is_not_believed_at_once() -> None:
    def grows() -> Iterator[tuple[float, Sample]]:
        for now in range(140):
            yield float(now), Sample(enqueued=now if now <= 120 else 120 + 50 * (now - 120))

    def falls() -> Iterator[tuple[float, Sample]]:
        for now in range(140):
            yield float(now), Sample(enqueued=50 * min(now, 120))

    assert followed(grows()).rate > 30
    assert followed(falls()).rate > 30


def test_tasks_that_have_not_ended_yet_make_the_service_time_grow() -> None:
    """Ten tasks run for two minutes and none has finished: an average of finished runs would know nothing."""
    found = followed((float(now), Sample(enqueued=10, running=10)) for now in range(120))
    assert found.service_time > 60


def test_the_prior_holds_until_there_are_runs() -> None:
    assert first_estimates(Sample(), 7.0, 0.0).service_time == pytest.approx(7.0)


def test_a_short_burst_of_short_runs_does_not_reach_zero() -> None:
    found = followed((float(now), Sample(enqueued=1000 * now, finished=1000 * now)) for now in range(60))
    assert 0 <= found.service_time < 0.1


def test_start_up_is_that_of_four_in_five_pods() -> None:
    """Five pods are requested at once; one gets ready each 4 seconds."""
    samples = ((float(now), Sample(replicas=5 if now else 0, ready_replicas=min(5, now // 4))) for now in range(30))
    found = followed(samples)
    assert len(found.starts) == 5
    assert found.startup == pytest.approx(16, abs=1)
    assert not found.requested


def test_a_pod_that_is_taken_back_before_it_is_ready_is_no_start() -> None:
    course = [(0.0, 0, 0), (1.0, 3, 0), (5.0, 1, 0), (9.0, 1, 1)]
    found = followed((now, Sample(replicas=replicas, ready_replicas=ready)) for now, replicas, ready in course)
    assert len(found.starts) == 1
    assert not found.requested


def test_before_any_start_one_is_assumed() -> None:
    assert first_estimates(Sample(), 1.0, 0.0).startup == FIRST_STARTUP


@pytest.mark.parametrize("sample", [Sample(enqueued=99, finished=50), Sample(enqueued=100, finished=49)])
def test_counters_that_went_back_are_another_queue(sample: Sample) -> None:
    assert observe(first_estimates(Sample(enqueued=100, finished=50), 1.0, 0.0), sample, 1.0) is None


def test_when_a_task_was_enqueued_is_remembered_with_few_points() -> None:
    chance = Random(1)
    counter, moments = 0, [0.0]
    found = first_estimates(Sample(), 1.0, 0.0)
    for now in range(1, 600):
        for _ in range(chance.randint(0, 4)):
            counter += 1
            moments.append(float(now))
        after = observe(found, Sample(enqueued=counter), float(now))
        assert after is not None
        found = after
    assert len(found.arrivals) <= 65
    for number in range(counter - 60, counter, 7):
        assert found.enqueued_at(number) == pytest.approx(moments[number], abs=3)
