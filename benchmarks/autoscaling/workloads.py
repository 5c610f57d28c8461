"""The workloads: arrivals of one hour or less, made from a seed."""

import math
from collections.abc import Callable, Iterator, Sequence
from random import Random

from msgspec import Struct

from stoker.autoscale.simulate import Arrival


class Workload(Struct, frozen=True):
    """Arrivals from a source of chance, for some seconds; `max_wait` is the promised wait. Outages of the signal, a quota."""

    name: str
    arrivals: Callable[[Random], Iterator[Arrival]]
    seconds: float
    max_wait: float = 30.0
    outages: Sequence[tuple[float, float]] = ()
    quota: float = math.inf


def poisson(chance: Random, rate: Callable[[float], float], peak: float, seconds: float) -> Iterator[float]:
    """Arrivals of a rate that changes, by thinning (Lewis and Shedler 1979)."""
    now = 0.0
    while (now := now + chance.expovariate(peak)) < seconds:
        if chance.random() * peak < rate(now):
            yield now


def lognormal(chance: Random, mean: float, spread: float = 0.5) -> float:
    """A service time; `spread` is sigma of its logarithm."""
    return chance.lognormvariate(math.log(mean) - spread * spread / 2, spread)


def steps(chance: Random) -> Iterator[Arrival]:
    """2, 20, 60, 5 tasks a second, 15 minutes each."""
    rates = (2, 20, 60, 5)
    for at in poisson(chance, lambda now: rates[int(now / 900)], 60, 3600):
        yield Arrival(at, lognormal(chance, 2.0))


def bursts(chance: Random) -> Iterator[Arrival]:
    """A thousand tasks at once, about every eight minutes."""
    at = chance.uniform(30, 120)
    while at < 3500:
        for _ in range(1000):
            yield Arrival(at + chance.uniform(0, 1), lognormal(chance, 2.0))
        at += chance.uniform(300, 660)


def diurnal(chance: Random) -> Iterator[Arrival]:
    """A day in an hour: from 1 to 41 tasks a second and back."""
    for at in poisson(chance, lambda now: 21 - 20 * math.cos(2 * math.pi * now / 3600), 41, 3600):
        yield Arrival(at, lognormal(chance, 2.0))


def on_off(chance: Random) -> Iterator[Arrival]:
    """A Markov-modulated Poisson process: 2 minutes of 40 a second, 3 minutes of 1, both on average."""
    now = 0.0
    while now < 3600:
        for rate, length in ((40.0, 120.0), (1.0, 180.0)):
            ends = now + chance.expovariate(1 / length)
            while (now := now + chance.expovariate(rate)) < min(ends, 3600):
                yield Arrival(now, lognormal(chance, 2.0))
            now = ends


def sporadic(chance: Random) -> Iterator[Arrival]:
    """From zero: a handful of tasks every few minutes."""
    now = 0.0
    while (now := now + chance.expovariate(1 / 180)) < 3600:
        for _ in range(chance.randint(1, 30)):
            yield Arrival(now, lognormal(chance, 1.0))


def long_tasks(chance: Random) -> Iterator[Arrival]:
    """Tasks of two minutes, a few a minute, then four times as many, then a few again."""
    for at in poisson(chance, lambda now: 1.2 if 1200 < now < 2400 else 0.3, 1.2, 3600):
        yield Arrival(at, lognormal(chance, 120.0, 0.3))


def drifting(chance: Random) -> Iterator[Arrival]:
    """Ten tasks a second; their service time grows from 1 to 8 seconds and falls back."""
    for at in poisson(chance, lambda _: 10, 10, 3600):
        yield Arrival(at, lognormal(chance, 1 + 7 * math.sin(math.pi * at / 3600) ** 2))


def heavy_tail(chance: Random) -> Iterator[Arrival]:
    """Ten tasks a second; service times of a Pareto distribution, 1.5 seconds on average, some of them minutes."""
    for at in poisson(chance, lambda _: 10, 10, 3600):
        yield Arrival(at, min(600.0, 0.5 * chance.paretovariate(1.5)))


def future(chance: Random) -> Iterator[Arrival]:
    """One task a second, and every ten minutes 600 that were scheduled for that moment five minutes before."""
    yield from sorted(
        [Arrival(at, lognormal(chance, 2.0)) for at in poisson(chance, lambda _: 1, 1, 3600)]
        + [Arrival(due - 300.0, lognormal(chance, 2.0), due) for due in (600, 1200, 1800, 2400, 3000) for _ in range(600)]
    )


WORKLOADS = (
    Workload("steps", steps, 3600),
    Workload("bursts of 1,000", bursts, 3600),
    Workload("diurnal", diurnal, 3600),
    Workload("on-off", on_off, 3600),
    Workload("sporadic", sporadic, 3600),
    Workload("2-minute tasks", long_tasks, 3600, 60.0),
    Workload("drifting", drifting, 3600),
    Workload("heavy tail", heavy_tail, 3600),
    Workload("future tasks", future, 3600),
    Workload("outage", steps, 3600, outages=((1000.0, 1180.0), (2650.0, 2830.0))),
    Workload("quota", diurnal, 3600, quota=6),
)
