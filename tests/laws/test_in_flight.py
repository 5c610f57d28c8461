"""Slots that a worker has asked tasks for are not asked for a second time."""

from stoker.worker.loop.capacity import InFlight


def test_what_is_asked_for_is_counted_until_it_is_over_and_once() -> None:
    in_flight = InFlight()
    first, second = in_flight.reserve(3, suspect=True), in_flight.reserve(4, suspect=False)
    assert (in_flight.asked, in_flight.suspect_asked_for) == (7, True)
    second.over()
    second.over()
    assert (in_flight.asked, in_flight.suspect_asked_for) == (3, True)
    first.over()
    assert (in_flight.asked, in_flight.suspect_asked_for) == (0, False)
