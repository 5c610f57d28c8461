"""`stoker schedules`: list, run, pause, resume, delete."""

import asyncio
import json
from typing import Any

import pytest

from stoker import cron
from stoker.client.client import Client
from stoker.queue.schedules import TASKQUEUE
from stoker.rules.schedule import Definition

NIGHTLY = Definition("nightly", cron("0 3 * * *", time_zone="Europe/Berlin"), "report", priority=3)


@pytest.fixture
def nightly(stoker: Any, redis_url: str) -> None:
    """A queue that was used, and one schedule in it."""
    stoker("enqueue", "other", "-q", "emails")

    async def declare() -> None:
        client = Client.at(redis_url, "test")
        await client.inspector.schedules("emails").register(TASKQUEUE, 1, [NIGHTLY])
        await client.close()

    asyncio.run(declare())


@pytest.mark.usefixtures("nightly")
def test_the_schedules_of_all_queues(stoker: Any) -> None:
    heading, row = stoker("schedules").out.splitlines()
    assert heading.split()[:4] == ["QUEUE", "NAME", "CRON", "ZONE"]
    assert row.split()[:2] == ["emails", "nightly"]
    for part in ("0 3 * * *", "Europe/Berlin", "report", "(in ", "taskqueue"):
        assert part in row
    [found] = json.loads(stoker("schedules", "--queue", "emails", "--json").out)
    assert found["queue"] == "emails"
    assert found["schedule"]["definition"]["timing"]["cron"] == "0 3 * * *"
    assert found["schedule"]["next_run"] > 0


@pytest.mark.usefixtures("nightly")
def test_a_run_now(stoker: Any) -> None:
    task_id = stoker("schedules", "run", "nightly", "-q", "emails").out.strip()
    task = json.loads(stoker("task", task_id, "--json").out)
    assert (task["task"], task["state"], task["priority"]) == ("report", "ready", 3)
    assert "running" in stoker("schedules").out


@pytest.mark.usefixtures("nightly")
def test_paused_and_resumed_and_deleted(stoker: Any) -> None:
    assert stoker("schedules", "pause", "nightly", "-q", "emails").out == "nightly: paused\n"
    assert stoker("schedules", "pause", "nightly", "-q", "emails").out == "nightly: already paused\n"
    assert " paused " in stoker("schedules").out
    assert stoker("schedules", "resume", "nightly", "-q", "emails").out == "nightly: resumed\n"
    assert stoker("schedules", "delete", "nightly", "-q", "emails").out == "nightly: deleted\n"
    assert len(stoker("schedules").out.splitlines()) == 1


@pytest.mark.parametrize("verb", ["run", "pause", "resume", "delete"])
@pytest.mark.usefixtures("nightly")
def test_one_that_is_not_there(stoker: Any, verb: str) -> None:
    ended = stoker("schedules", verb, "weekly", "-q", "emails")
    assert (ended.code, ended.err) == (3, "error: queue 'emails' has no schedule 'weekly'\n")
