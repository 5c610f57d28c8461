"""Slots that a worker has asked tasks for are not asked for a second time."""

from stoker.queue.records import Holds
from stoker.worker.loop.capacity import InFlight


def test_what_is_asked_for_is_counted_until_it_is_over_and_once() -> None:
    in_flight = InFlight()
    first, second = in_flight.reserve(3, Holds.TASKS), in_flight.reserve(4, Holds.SUSPECT)
    assert (in_flight.asked, in_flight.suspect_asked_for) == (7, True)
    second.over()
    second.over()
    assert (in_flight.asked, in_flight.suspect_asked_for) == (3, True)
    first.over()
    assert (in_flight.asked, in_flight.suspect_asked_for) == (0, False)
