"""Heartbeat: a thread that renews the leases of a process' workers, so that a busy event loop does not lose them."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from stoker.errors import StokerError
from stoker.queue.broker import pulse
from stoker.queue.records import Pulse
from stoker.queue.scripts import ScriptCall, run_blocking
from stoker.redis.connect import ThreadClient
from stoker.worker.loop.watchdog import Watchdog

_log = logging.getLogger("stoker.worker")


class LeaseHolder(Protocol):
    """A worker, as the heartbeat's thread sees it. `apply_heartbeat` is called on the event loop."""

    def heartbeat_call(self) -> ScriptCall: ...
    def apply_heartbeat(self, answer: Pulse) -> None: ...


class Heartbeat(threading.Thread):
    """Beats every `interval` seconds for each of `workers`, a list that may still grow.

    It stops while the loop is stuck: tasks that will never end there must go to another worker.
    """

    def __init__(
        self,
        redis: ThreadClient,
        interval: float,
        watchdog: Watchdog,
        workers: Sequence[LeaseHolder],
        on_loop: Callable[..., object],
    ) -> None:
        super().__init__(name="stoker-heartbeat", daemon=True)
        self._redis = redis
        self._interval = interval
        self._watchdog = watchdog
        self._workers = workers
        self._on_loop = on_loop
        self._ended = threading.Event()

    def run(self) -> None:
        """Beat until `stop`."""
        while not self._ended.is_set():
            self._watchdog.report()
            if not self._watchdog.stuck:
                self.beat()
            self._ended.wait(self._interval)

    def beat(self) -> None:
        """One heartbeat of each worker. A failure is only logged: the next may still be in time."""
        for worker in self._workers:
            try:
                answer = pulse(run_blocking(self._redis, worker.heartbeat_call()))
            except StokerError as error:
                _log.warning("heartbeat failed", extra={"error": str(error)})
            else:
                self._on_loop(worker.apply_heartbeat, answer)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._ended.set()
        if self.is_alive():
            self.join()
        self._redis.close()
