"""Fleet: the worker processes of one TaskQueue, what a Deployment is on a cluster."""

import secrets
import signal
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from stoker.errors import Invalid
from stoker.manifest.task_queue import TaskQueue
from stoker.settings import tracing_environment, worker_environment
from stoker.worker.system.managed_process import KeepPolicy, ManagedProcess, ProcessKeeper

_WORKER = [sys.executable, "-m", "stoker", "worker"]


class Fleet:
    """Keeps as many workers running as `scale` asked for. Surplus ones drain. Raises Invalid where the manifest names no app."""

    def __init__(self, queue: TaskQueue, environment: Mapping[str, str], folder: Path, secret_url: str = "") -> None:
        if not queue.spec.worker.app:
            raise Invalid(f"TaskQueue {queue.name}: spec.worker.app is missing; without a cluster there is no image to ask")
        self.replicas = 0
        # The code may have changed since the last run: its workers may know what those before did not.
        self.template = f"up-{secrets.token_hex(8)}"
        self._secret_url = secret_url
        self._queue = queue
        self._environment = {
            **worker_environment(queue, queue.key_namespace),
            **tracing_environment(queue),
            "STOKER_HOST": "127.0.0.1",
            "STOKER_PORT": "0",
            "STOKER_TEMPLATE": self.template,
            **{variable["name"]: str(variable.get("value", "")) for variable in queue.spec.worker.env},
            **environment,
        }
        self._folder = folder
        self._keeper = ProcessKeeper(self._start, KeepPolicy(kill_after=queue.spec.worker.drain_timeout))
        self._numbers = count(1)

    @property
    def working(self) -> list[ManagedProcess]:
        """Workers that do not drain, oldest first."""
        return self._keeper.working

    @property
    def draining(self) -> int:
        """How many workers finish their last tasks."""
        return self._keeper.draining

    @property
    def trouble(self) -> str:
        """Why the last worker crashed, while that matters."""
        return trouble_of(self._keeper, self.replicas)

    async def check(self) -> None:
        """Import the application once. Raises Invalid with its error."""
        log = self._folder / f"{self._queue.name}-check.log"
        probe = await ManagedProcess.start("check", [*_WORKER, "--check"], self._environment, log)
        if await probe.ended() != 0:
            raise Invalid(f"TaskQueue {self._queue.name}: {probe.log_tail().removeprefix('error: ')}")

    async def scale(self, replicas: int, now: float) -> None:
        """Bring the number of workers to `replicas`, and replace those that died. `now` is `time.monotonic()`."""
        self.replicas = replicas
        await self._keeper.scale(replicas, now)

    def abort(self) -> None:
        """Have draining workers requeue their tasks at once."""
        self._keeper.abort()

    async def stop(self) -> None:
        """Drain all workers, and wait until they have ended."""
        await self._keeper.stop()

    async def _start(self) -> ManagedProcess:
        name = f"{self._queue.name}-{next(self._numbers)}"
        environment = {**self._environment, "STOKER_NAME": name}
        log, secret = self._folder / f"{name}.log", self._secret_url
        return await ManagedProcess.start(name, _WORKER, environment, log, orphaned=signal.SIGHUP, secret_url=secret)


def trouble_of(keeper: ProcessKeeper, wanted: int) -> str:
    """Why the last process crashed; empty once one has lived for a while, one that was killed is replaced, or none is wanted."""
    crashed = keeper.crashed
    if crashed is None or not wanted or (_was_killed(crashed) and keeper.replaced):
        return ""
    return _crash(crashed)


def _was_killed(process: ManagedProcess) -> bool:
    return process.exit_code is not None and process.exit_code < 0


def _crash(process: ManagedProcess) -> str:
    if _was_killed(process):
        return f"{process.name} was killed by signal {-(process.exit_code or 0)}; another takes its place"
    lines = process.log_tail().splitlines()
    return f"{process.name} ended with exit code {process.exit_code}: {lines[-1] if lines else 'it wrote no log'}"
