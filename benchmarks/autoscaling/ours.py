"""Stoker's own decision, with the readings of the simulation."""

from stoker.autoscale.decide import Demand, Memory, Policy, decide, look_ahead
from stoker.autoscale.simulate import Reading


class Stoker:
    """The shipped `decide`."""

    interval, empties_pods = 1.0, True

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._memory: Memory | None = None

    @property
    def look_ahead(self) -> float:
        return look_ahead(self._policy, self._memory)

    def decide(self, reading: Reading | None) -> int | None:
        demand = None
        if reading is not None:
            self._now, self._replicas = reading.now, reading.replicas
            demand = Demand(
                ready=reading.ready,
                running=reading.running,
                due=reading.due,
                enqueued=reading.enqueued,
                finished=reading.finished,
                ready_replicas=reading.replicas - reading.starting,
            )
        decision = decide(demand, self._policy, self._replicas if demand is None else reading.replicas, self._memory, self._now)
        self._memory = decision.memory
        return decision.replicas
