"""What a worker's log has of runs: one line each, tracebacks, and all of it whatever the application does to logging."""

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stoker import Stoker
from stoker.app.task import Handle
from tests.stories.apps import quarry
from tests.stories.working import WorkerProcess, worker_process, working
from tests.waiting import until


@pytest.fixture
async def mine(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stoker]:
    monkeypatch.setenv("QUARRY_CONFIGURES", "1")  # in the worker
    quarry.app.redis_url = redis_url
    yield quarry.app
    await quarry.app.close()


async def ended(handle: Handle[Any]) -> bool:
    return (await handle.status()).state.value in {"succeeded", "dead"}


def of(worker: WorkerProcess, message: str, handle: Handle[Any]) -> list[dict[str, Any]]:
    return [line for line in worker.said(message) if line.get("task_id") == handle.id]


async def test_an_application_that_configures_logging_loses_and_doubles_no_line(mine: Stoker, redis_url: str, tmp_path: Path):
    with worker_process(redis_url, tmp_path, "--log-level", "info", "--task-processes", "1", app="quarry:app") as worker:
        dug, fell, blown = await quarry.dig.enqueue(), await quarry.collapse.enqueue(), await quarry.blast.enqueue()
        for handle in (dug, fell, blown):
            await until(lambda handle=handle: ended(handle))
        await until(lambda: of(worker, "task dead", blown) and of(worker, "task dead", fell))
        again = await quarry.configure_again.enqueue()
        await until(lambda: of(worker, "task succeeded", again))
        after = [await quarry.dig.enqueue() for _ in range(3)]
        for handle in after:
            await until(lambda handle=handle: ended(handle))
        worker.process.terminate()
        await worker.exit_code()
        text = (tmp_path / "worker.log").read_text()

    assert len(worker.said("worker started")) == len(worker.said("worker stopped")) == 1
    [line] = of(worker, "task succeeded", dug)
    assert (line["level"], line["task"], line["queue"], line["attempt"]) == ("info", "dig", "default", 1)
    assert line["seconds"] >= 0
    assert line["waited"] >= 0
    [retried], [dead] = of(worker, "task failed, will be retried", fell), of(worker, "task dead", fell)
    assert (retried["level"], dead["level"]) == ("warning", "error")
    for line in (retried, dead):
        assert line["exception"].startswith("Traceback (most recent call last):")
        assert "in collapse" in line["exception"]
    [dead] = of(worker, "task dead", blown)
    assert "in blast" in dead["exception"]
    assert "ValueError: wet powder" in dead["exception"]
    assert len(of(worker, "lighting the fuse", blown)) == 1
    assert text.count("a line of the child") == 1
    assert all(of(worker, "task succeeded", handle) for handle in after)
    assert text.count("OWN quarry a line of the application") == text.count("a line of the application") == 1, (
        "its second disables it"
    )
    assert "OWN stoker" not in text


async def test_a_text_log_has_the_traceback_below_and_no_line_that_a_task_forged(mine: Stoker, redis_url: str, tmp_path: Path):
    flags = ("--log-format", "text", "--processes", "2")
    with worker_process(redis_url, tmp_path, *flags, app="quarry:app") as worker:
        fell = await quarry.collapse.enqueue()
        await until(lambda: ended(fell))
        worker.process.terminate()
        await worker.exit_code()
    lines = (tmp_path / "worker.log").read_text().splitlines()
    assert sum("task failed, will be retried" in line for line in lines) == 1
    assert sum("in collapse" in line for line in lines) == 2
    forged = [line for line in lines if "a forged line" in line]
    assert all(line.startswith("    ") or "error=" in line.replace("\x1b[0m", "") for line in forged)
    assert not any("\x1b[2J" in line for line in lines)


@pytest.mark.parametrize(
    ("mode", "successes", "failures", "summaries"),
    [
        pytest.param("all", 250, 1, 0, id="all"),
        pytest.param("auto", 100, 1, 1, id="auto"),
        pytest.param("failures", 0, 1, 0, id="failures"),
        pytest.param("none", 0, 0, 0, id="none"),
    ],
)
async def test_many_successes_are_summed_up_and_failures_are_not(
    app: Stoker, mode: str, successes: int, failures: int, summaries: int, caplog: pytest.LogCaptureFixture
):
    @app.task()
    async def ship(number: int) -> None: ...

    @app.task(retry=0)
    async def sink() -> None:
        raise ValueError("leak")

    caplog.set_level(logging.INFO)
    handles = [await ship.enqueue(number) for number in range(250)]
    handles.append(await sink.enqueue())
    async with working(app, log_tasks=mode, concurrency=50):
        for handle in handles:
            await until(lambda handle=handle: ended(handle))
    said = [record for record in caplog.records if record.name == "stoker.worker"]
    messages = "task succeeded", "task dead", "tasks ended"
    one_by_one, dead, summed = ([each for each in said if each.getMessage() == text] for text in messages)
    if mode == "auto":  # a slow machine may need more than a second for them
        rest = sum(record.__dict__["succeeded"] for record in summed)
        assert len(one_by_one) + rest == 250
        assert successes <= len(one_by_one) < 250
        assert summed[0].__dict__["tasks"] == {"ship": summed[0].__dict__["succeeded"]}
        assert summed[0].__dict__["queue"] == "default"
    else:
        assert (len(one_by_one), len(summed)) == (successes, summaries)
    assert len(dead) == failures
    if dead:
        assert "ValueError: leak" in json.dumps(dead[0].exc_text)
