"""What a worker has asked Redis for and has no answer to yet: room for so many tasks, and whether one may be a suspect."""


class Room:
    """All that is asked for. Only one asks for a suspect at a time: two might bring two."""

    def __init__(self) -> None:
        self.asked = 0
        self.suspect_asked_for = False

    def book(self, tasks: int, *, suspect: bool) -> "Booking":
        """Ask for room, and for a suspect or not, until the booking is over."""
        self.asked += tasks
        self.suspect_asked_for = self.suspect_asked_for or suspect
        return Booking(self, tasks, suspect=suspect)


class Booking:
    """One of those that ask."""

    def __init__(self, room: Room, tasks: int, *, suspect: bool) -> None:
        self.tasks = tasks
        self.suspect = suspect
        self._room: Room | None = room

    def over(self) -> None:
        """The answer is here, or will not come. Said twice, it counts once."""
        if room := self._room:
            self._room = None
            room.asked -= self.tasks
            room.suspect_asked_for = room.suspect_asked_for and not self.suspect
