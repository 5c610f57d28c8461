"""Slots that a worker has asked tasks for are not asked for a second time."""

from stoker.worker.loop.prefetch import InFlight


def test_what_is_asked_for_is_counted_until_it_is_over_and_once() -> None:
    room = InFlight()
    first, second = room.book(3, suspect=True), room.book(4, suspect=False)
    assert (room.asked, room.suspect_asked_for) == (7, True)
    second.over()
    second.over()
    assert (room.asked, room.suspect_asked_for) == (3, True)
    first.over()
    assert (room.asked, room.suspect_asked_for) == (0, False)
