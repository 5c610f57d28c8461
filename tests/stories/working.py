"""Workers for stories: one inside the test's own event loop, or one as a process that can be stopped and killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from stoker import Retry, Stoker
from stoker.manifest.policies import Lease
from stoker.rules.retry import Jitter
from stoker.rules.units import Duration
from stoker.settings import WorkerSettings
from stoker.worker.process.process import process_name, work
from stoker.worker.process.status_page import LoadingPage
from tests.waiting import until

APPS = Path(__file__).parent / "apps"
"""On the workers' PYTHONPATH: `bakery:app` is apps/bakery.py."""
ENDS_WITHIN = 30.0
AT_ONCE = Retry(max_retries=3, initial_delay=0.01, multiplier=1, jitter=Jitter.NONE)


@asynccontextmanager
async def working(app: Stoker, /, **settings: Any) -> AsyncIterator[asyncio.Task[None]]:
    """A worker on the app's `default` queue, drained at the end. Raises what the block raises, else what the worker does."""
    defaults: dict[str, Any] = {"queue": "default", "retry": AT_ONCE, "lease": Lease(Duration(1)), "drain_timeout": 5.0, "port": 0}
    chosen = WorkerSettings(**{"redis_url": app.redis_url, "namespace": app.namespace, "host": "127.0.0.1", **defaults, **settings})
    running = asyncio.create_task(_work(app, chosen))
    await until(lambda: running.done() or signal.getsignal(signal.SIGTERM) not in {signal.SIG_DFL, None})
    try:
        yield running
    except BaseException:
        with suppress(Exception):  # what the story says went wrong first
            await _drained(running)
        raise
    await _drained(running)


async def _work(app: Stoker, settings: WorkerSettings) -> None:
    with LoadingPage(process_name(settings), settings) as status:
        await work(app, settings, status)


async def _drained(running: asyncio.Task[None]) -> None:
    if not running.done():
        signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(ENDS_WITHIN):
        await running


class WorkerProcess:
    """`stoker worker` as a process."""

    def __init__(self, url: str, log: Path, *flags: str, app: str = "bakery:app") -> None:
        self._log = log
        command = [sys.executable, "-m", "stoker", "worker", app, "--port", "0", "--lease", "1s", "--log-format", "json"]
        if not {"-q", "--queue"} & set(flags):
            command += ["-q", "default"]  # not all queues of its tasks
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(APPS), os.environ.get("PYTHONPATH", "")]),
            "STOKER_REDIS_URL": url,
            "STOKER_LOG_LEVEL": "debug",
        }
        with log.open("wb") as sink:
            self.process = subprocess.Popen([*command, *flags], env=environment, stdout=sink, stderr=sink)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        await until(lambda: self.process.poll() is not None, ENDS_WITHIN)
        return int(self.process.returncode)

    def said(self, message: str) -> list[dict[str, Any]]:
        """The log lines with this message."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["message"] == message]


@contextmanager
def worker_process(url: str, folder: Path, *flags: str, name: str = "worker", app: str = "bakery:app") -> Iterator[WorkerProcess]:
    """A worker process that does not outlive the test."""
    worker = WorkerProcess(url, folder / f"{name}.log", *flags, app=app)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait()
