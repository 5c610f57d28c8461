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


@pytest.fixture
def declared(stoker: Any, redis_url: str) -> Any:
    """A schedule of an application's code; called, its worker declares it again, as every quarter of a minute."""

    def declare(expression: str = "30 2 * * *", version: int = 1) -> None:
        async def work() -> None:
            client = Client.at(redis_url, "test")
            timing = cron(expression, time_zone="Europe/Berlin")
            await client.inspector.schedules("default").register("code:shop", version, [Definition("nightly", timing, "report")])
            await client.close()

        asyncio.run(work())

    stoker("enqueue", "other")
    declare()
    return declare


def test_an_override_stands_against_redeploys_until_it_is_reset(stoker: Any, declared: Any) -> None:
    assert stoker("schedules", "reset", "nightly").out == "nightly: as declared, nothing to reset\n"
    assert stoker("schedules", "set", "nightly", "--cron", "0 5 * * *").out.startswith("nightly: 0 5 * * * Europe/Berlin, until")
    declared("0 1 * * *", version=2)  # another version of the code
    for part in ("0 5 * * *", "override:nightly"):
        assert part in stoker("schedules").out
    assert stoker("schedules", "set", "nightly", "--jitter", "5m").out.startswith("nightly: 0 5 * * *")  # a second change
    assert stoker("schedules", "pause", "nightly").out == "nightly: paused\n"
    assert "resume it first" in stoker("schedules", "reset", "nightly").err
    stoker("schedules", "resume", "nightly")
    assert stoker("schedules", "reset", "nightly").out == "nightly: reset\n"
    declared("0 1 * * *", version=2)
    for part in ("0 1 * * *", "code:shop"):
        assert part in stoker("schedules").out


@pytest.mark.usefixtures("nightly")
def test_what_the_taskqueue_declares_is_changed_there(stoker: Any) -> None:
    ended = stoker("schedules", "set", "nightly", "-q", "emails", "--cron", "0 5 * * *")
    assert (ended.code, "change its spec.schedules" in ended.err) == (1, True)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        pytest.param([], 2, "nothing to change", id="nothing"),
        pytest.param(["--cron", "0 25 * * *"], 1, "bad cron expression '0 25 * * *'", id="no such hour"),
        pytest.param(["--time-zone", "Berlin"], 1, "unknown time zone 'Berlin'", id="no such zone"),
    ],
)
def test_a_wrong_change_changes_nothing(stoker: Any, declared: Any, flags: list[str], code: int, words: str) -> None:
    ended = stoker("schedules", "set", "nightly", *flags)
    assert (ended.code, words in ended.err) == (code, True)
    assert "code:shop" in stoker("schedules").out


@pytest.mark.usefixtures("declared")
def test_the_next_runs_in_the_schedules_zone_and_here(stoker: Any) -> None:
    heading, *rows = stoker("schedules", "next", "nightly", "-c", "3").out.splitlines()
    assert (heading.split(), len(rows)) == (["EUROPE/BERLIN", "LOCAL", "TIME", "IN"], 3)
    assert all("02:30:00 +0" in row or "03:00:00 +0200" in row for row in rows)  # 2:30 is skipped once a year
    found = json.loads(stoker("schedules", "next", "nightly", "--json").out)
    assert len(found["next"]) == 5
    assert stoker("schedules", "next", "weekly").code == 3


@pytest.mark.parametrize("verb", ["run", "pause", "resume", "delete"])
@pytest.mark.usefixtures("nightly")
def test_one_that_is_not_there(stoker: Any, verb: str) -> None:
    ended = stoker("schedules", verb, "weekly", "-q", "emails")
    assert (ended.code, ended.err) == (3, "error: queue 'emails' has no schedule 'weekly'\n")
