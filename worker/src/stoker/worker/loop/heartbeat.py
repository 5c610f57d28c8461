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
from stoker.rules.announcement import Announcement
from stoker.worker.loop.announcer import Announcer
from stoker.worker.loop.watchdog import Watchdog

RETRIES = 10
"""Retries of a failed heartbeat within one interval, at least."""
RETRY_INTERVAL = 1.0
"""Longest pause in seconds before such a retry."""
ANNOUNCED_AT_MOST = 1000
"""Calls in one heartbeat that release unclaimed tasks, RELEASED_AT_ONCE in each."""
_log = logging.getLogger("stoker.worker")


class LeaseHolder(Protocol):
    """A worker, as the heartbeat's thread sees it. `apply_heartbeat` is called on the event loop."""

    def heartbeat_call(self) -> ScriptCall: ...
    def apply_heartbeat(self, answer: Pulse) -> None: ...
    @property
    def announcer(self) -> Announcer: ...


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
        self._failing = False
        self._announced: dict[LeaseHolder, Announcement] = {}

    def run(self) -> None:
        """Beat until `stop`."""
        while not self._ended.is_set():
            self._watchdog.report()
            answered = self._watchdog.stuck or self.beat()
            self._ended.wait(self._interval if answered else min(self._interval / RETRIES, RETRY_INTERVAL))

    def beat(self) -> bool:
        """One heartbeat of each worker. A failure is only logged: the next may still be in time. Returns whether all succeeded."""
        answered = True
        for worker in self._workers:
            try:
                answer = pulse(run_blocking(self._redis, worker.heartbeat_call()))
            except StokerError as error:
                answered = False
                if not self._failing:
                    _log.warning("heartbeat failed: retrying until Redis answers", extra={"error": str(error)})
                self._failing = True
            else:
                self._on_loop(worker.apply_heartbeat, answer)
                self._announce(worker, due=answer.announce)
        self._failing = not answered
        return answered

    def _announce(self, worker: LeaseHolder, *, due: bool) -> None:
        """Announce the worker's tasks, after its heartbeat: from then on none that it knows is set aside, and this releases all
        that were. Then their description, where no worker of its template has written it. Again when the tasks change, and after
        a time in which the worker counted as dead.
        """
        announcer = worker.announcer
        announcement = announcer.announcement()
        if not due and self._announced.get(worker) is announcement:
            return
        self._announced.pop(worker, None)  # until it has succeeded
        try:
            for _ in range(ANNOUNCED_AT_MOST):
                _, more = run_blocking(self._redis, announcer.announce_call())
                if not more:
                    break
            if announcer.describes and run_blocking(self._redis, announcer.describe_call(ask=True)):
                run_blocking(self._redis, announcer.describe_call())
        except StokerError as error:  # the next heartbeat tries again
            _log.debug("announcement failed", extra={"error": str(error)})
        else:
            self._announced[worker] = announcement

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._ended.set()
        if self.is_alive():
            self.join()
        self._redis.close()
