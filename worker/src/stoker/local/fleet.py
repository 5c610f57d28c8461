"""The workers of one TaskQueue as processes: what a Deployment is on a cluster."""

import signal
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from stoker.errors import Invalid
from stoker.manifest import TaskQueue
from stoker.rules.retry import Jitter, Retry, backoff
from stoker.settings import DEFAULT_NAMESPACE, worker_environment
from stoker.worker.system.managed_process import Program

YOUNG = 10.0
"""A worker that ends by itself within this many seconds could not start."""
CRASH_BACKOFF = Retry(initial_delay=1.0, multiplier=2, max_delay=30.0, jitter=Jitter.NONE)


class Fleet:
    """Keeps as many workers running as it was asked for. Leaving ones finish their tasks first."""

    def __init__(self, queue: TaskQueue, environment: Mapping[str, str], folder: Path) -> None:
        if not queue.spec.worker.app:
            raise Invalid(f"TaskQueue {queue.name}: spec.worker.app is missing; without a cluster there is no image to ask")
        self.replicas = 0
        self.crashes = 0
        self.trouble = ""
        self._queue = queue
        self._environment = {
            **worker_environment(queue, DEFAULT_NAMESPACE),
            "STOKER_HOST": "127.0.0.1",
            "STOKER_PORT": "0",
            **{variable["name"]: str(variable.get("value", "")) for variable in queue.spec.worker.env},
            **environment,
        }
        self._folder = folder
        self._children: list[Program] = []
        self._numbers = count(1)
        self._not_before = 0.0

    @property
    def working(self) -> list[Program]:
        """Those that are not on their way out, oldest first."""
        return [child for child in self._children if child.running and not child.asked_to_leave]

    @property
    def leaving(self) -> int:
        """Those that finish their last tasks."""
        return sum(child.running and child.asked_to_leave for child in self._children)

    async def check(self) -> None:
        """Import the application once. Raises Invalid with its complaint."""
        probe = await Program.start(
            "check", [*_WORKER, "--check"], self._environment, self._folder / f"{self._queue.name}-check.log"
        )
        if await probe.ended() != 0:
            raise Invalid(f"TaskQueue {self._queue.name}: {probe.last_words().removeprefix('error: ')}")

    async def scale(self, replicas: int, now: float) -> None:
        """Bring the number of workers to `replicas`, and replace those that died. `now` in monotonic seconds."""
        self.replicas = replicas
        self._bury(now)
        working = self.working
        for child in working[replicas:]:
            child.ask_to_leave()
        if now >= self._not_before:
            for _ in range(replicas - len(working)):
                await self._start()

    def release(self) -> None:
        """Tell those that are leaving to give their tasks back at once."""
        for child in self._children:
            if child.asked_to_leave:
                child.ask_to_leave()

    async def stop(self) -> None:
        """Let all of them finish their tasks and leave."""
        for child in self._children:
            if not child.asked_to_leave:
                child.ask_to_leave()
        for child in self._children:
            await child.stop(self._queue.spec.worker.drain_timeout)

    async def _start(self) -> None:
        name = f"{self._queue.name}-{next(self._numbers)}"
        environment = {**self._environment, "STOKER_NAME": name}
        log = self._folder / f"{name}.log"
        self._children.append(await Program.start(name, _WORKER, environment, log, orphaned=signal.SIGHUP))

    def _bury(self, now: float) -> None:
        ended = [child for child in self._children if not child.running]
        self._children = [child for child in self._children if child.running]
        for child in ended:
            if child.asked_to_leave:
                continue
            if now - child.started < YOUNG and child.exit_code != 0:
                self.crashes += 1
                self._not_before = now + backoff(CRASH_BACKOFF, self.crashes, lambda: 1.0)
                self.trouble = f"{child.name} {_obituary(child)}"
        if any(now - child.started >= YOUNG for child in self._children):
            self.crashes, self.trouble = 0, ""


def _obituary(child: Program) -> str:
    if child.exit_code and child.exit_code < 0:
        return f"was killed by signal {-child.exit_code}; another takes its place"
    words = child.last_words().splitlines()
    return f"ended with exit code {child.exit_code}: {words[-1] if words else 'it wrote no log'}"


_WORKER = [sys.executable, "-m", "stoker", "worker"]
