"""The heartbeat: renews the leases of a worker from a thread of its own, so that a busy event loop does not lose them."""

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


class Heart(Protocol):
    """A worker, as the heartbeat's thread sees it. `hear` is called on the event loop."""

    def heartbeat_call(self) -> ScriptCall: ...
    def hear(self, answer: Pulse) -> None: ...


class Heartbeat(threading.Thread):
    """Renews the worker's leases from a thread of its own, so that a busy event loop does not lose them.

    It stops while the loop is stuck: tasks that nobody will ever finish must go to another worker.
    """

    def __init__(
        self, redis: ThreadClient, interval: float, watch: Watchdog, hearts: Sequence[Heart], on_loop: Callable[..., object]
    ) -> None:
        super().__init__(name="stoker-heartbeat", daemon=True)
        self._redis = redis
        self._interval = interval
        self._watch = watch
        self._hearts = hearts
        self._on_loop = on_loop
        self._ended = threading.Event()

    def run(self) -> None:
        """Beat until `stop`."""
        while not self._ended.is_set():
            self._watch.report()
            if not self._watch.stuck:
                self.beat()
            self._ended.wait(self._interval)

    def beat(self) -> None:
        """One heartbeat of each. A failed one is only logged: the next may still come in time."""
        for heart in self._hearts:
            try:
                answer = pulse(run_blocking(self._redis, heart.heartbeat_call()))
            except StokerError as error:
                _log.warning("heartbeat failed", extra={"error": str(error)})
            else:
                self._on_loop(heart.hear, answer)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._ended.set()
        if self.is_alive():
            self.join()
        self._redis.close()
