"""How long a worker has left to others what it does not know."""

from msgspec import Raw

from stoker.rules.message import Message
from stoker.worker.loop.unknown_tasks import MAX_UNKNOWN, UnknownTasks

ENQUEUED = 1000.0


def message(task: str = "of_the_next_version", version: int = 0, enqueued: float = ENQUEUED) -> Message:
    return Message("id", task, Raw(b"{}"), "default", round(enqueued * 1000), version=version)


def test_it_counts_from_the_first_meeting() -> None:
    strangers = UnknownTasks()
    assert [strangers.unknown_for(message(), at) for at in (5000.0, 5005.0, 5600.0)] == [0, 5, 600], "however old the task is"


def test_a_task_that_came_afterwards_counts_from_its_enqueue() -> None:
    strangers = UnknownTasks()
    strangers.unknown_for(message(), 1000.0)
    assert strangers.unknown_for(message(enqueued=9000.0), 9005.0) == 5


def test_every_name_and_version_counts_for_itself() -> None:
    strangers = UnknownTasks()
    strangers.unknown_for(message(), 1000.0)
    assert strangers.unknown_for(message(task="another"), 2000.0) == 0
    assert strangers.unknown_for(message(version=2), 2000.0) == 0


def test_beyond_the_remembered_kinds_tasks_count_from_their_enqueue() -> None:
    """So that each comes to an end, and a sender of made-up names cannot fill a worker's memory."""
    strangers = UnknownTasks()
    for number in range(MAX_UNKNOWN):
        strangers.unknown_for(message(task=f"made-up-{number}"), 1000.0)
    assert strangers.unknown_for(message(task="one-more"), 1300.0) == 300
    assert strangers.unknown_for(message(task="made-up-0"), 1300.0) == 300
