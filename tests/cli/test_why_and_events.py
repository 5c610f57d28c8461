"""`why`, `events` and the failures in `task`: what they print, for people and for scripts."""

import asyncio
import json
import os
import signal
import sys
from typing import Any

from stoker.queue.keys import Keys
from stoker.queue.reads.events import attend
from stoker.redis.client import ask
from stoker.redis.connect import connect
from tests.dead_tasks import bury_next
from tests.waiting import until


def test_why_for_people_and_for_scripts(stoker: Any) -> None:
    stoker("enqueue", "send_email", "--id", "x", "-q", "emails")
    lines = stoker("why", "x").out.splitlines()
    assert [line.split("  ")[-1].strip() for line in lines] == [
        "x",
        "send_email",
        "emails",
        "ready",
        "queue emails has no live worker",
        "it is next in line",
    ]
    explanation = json.loads(stoker("why", "x", "-q", "emails", "--json").out)
    assert [reason["cause"] for reason in explanation["reasons"]] == ["no_workers", "next"]
    assert explanation["ahead"] == 0


def test_why_of_an_unknown_task(stoker: Any) -> None:
    assert (stoker("why", "nope").code, stoker("why", "nope", "-q", "emails").code) == (3, 3)


def test_failures_are_shown_by_task_and_why(stoker: Any, redis_url: str) -> None:
    stoker("enqueue", "t", "--id", "x")
    asyncio.run(bury_next(redis_url, "default"))
    for command in ("task", "why"):
        [line] = [line for line in stoker(command, "x").out.splitlines() if line.startswith("attempt 1")]
        assert line.endswith("ValueError: it broke")
    assert "waits in the dead letters for a redrive" in stoker("why", "x").out


def test_events_that_were_written(stoker: Any, redis_url: str) -> None:
    assert stoker("events", "-q", "emails").out == ""

    async def watch() -> None:
        redis = connect(redis_url)
        await attend(redis, Keys("test", "emails"))
        await redis.aclose()

    asyncio.run(watch())
    stoker("enqueue", "t", "--id", "x", "-q", "emails")
    stoker("pause", "-q", "emails")
    first, second = stoker("events", "-q", "emails").out.splitlines()
    assert first.split()[1:] == ["enqueued", "x", "t", "ready"]
    assert second.split()[1:] == ["paused"]
    event = json.loads(stoker("events", "-q", "emails", "--json", "--limit", "2").out.splitlines()[0])
    assert (event["what"], event["id"], event["task"]) == ("enqueued", "x", "t")


async def test_events_are_followed_until_control_c(stoker: Any, redis_url: str) -> None:
    environment = {**os.environ, "STOKER_REDIS_URL": redis_url, "STOKER_NAMESPACE": "test"}
    command = [sys.executable, "-m", "stoker", "events", "-q", "emails", "--follow", "--json"]
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    redis = connect(redis_url)
    following = await asyncio.create_subprocess_exec(*command, env=environment, **pipes)
    try:

        async def watched() -> bool:
            return bool(await ask(redis, "HEXISTS", Keys("test", "emails").meta, "audience_until"))

        await until(watched)
        await asyncio.to_thread(stoker, "enqueue", "t", "--id", "x", "-q", "emails")
        assert following.stdout
        async with asyncio.timeout(10):
            line = await following.stdout.readline()
        assert json.loads(line)["what"] == "enqueued"
        following.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            _, complaints = await following.communicate()
        assert (following.returncode, complaints) == (0, b"")
    finally:
        if following.returncode is None:
            following.kill()
            await following.wait()
        await redis.aclose()
