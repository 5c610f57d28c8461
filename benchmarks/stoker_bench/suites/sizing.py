"""How many tasks a peer is given: as many as it runs in the time planned, the same in every round."""

from collections.abc import Callable

from stoker_bench.bench import Plan, Row

SMALLEST, TRIAL = 200, 500


def size(known: Row, plan: Plan, trial: Callable[[int], Row]) -> int:
    """The number for a measurement; a first, short `trial` of so many tasks tells the rate."""
    if "size" not in known:
        rate = trial(min(TRIAL, plan.largest))["per_second"]
        known["size"] = max(SMALLEST, min(plan.largest, round(rate * plan.seconds)))
    return int(known["size"])
