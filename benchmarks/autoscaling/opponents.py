"""Autoscalers of others, from their published formulas, with the same readings and the same pods."""

from collections import deque
from math import ceil, inf

from stoker.autoscale.simulate import Reading

SYNC = 15.0
TOLERANCE = 0.1


class Hpa:
    """A HorizontalPodAutoscaler on the length of the queue: ceil(n * ratio), 10 % tolerance, up by the larger of 4 pods and 100 %
    in 15 s, down to the highest recommendation of the last 300 s (Kubernetes 1.36). From zero by KEDA (2.21): activation at its
    poll, to one pod, and back to zero after its cool-down; without KEDA by itself (HPAScaleToZero, 1.37)."""

    empties_pods, look_ahead = False, 0.0

    def __init__(
        self,
        target: float,
        *,
        poll: float = 30.0,
        cooldown: float = 300.0,
        window: float = 300.0,
        step: int = 4,
        factor: float = 2.0,
    ) -> None:
        self.interval = 5.0
        self._target, self._poll, self._cooldown, self._window, self._step, self._factor = (
            target,
            poll,
            cooldown,
            window,
            step,
            factor,
        )
        self._active_at = -inf
        self._polled = self._synced = -inf
        self._recent: deque[tuple[float, int]] = deque()

    def decide(self, reading: Reading | None) -> int | None:
        if reading is None:
            return None
        if reading.replicas == 0:
            return self._activate(reading)
        if reading.ready:
            self._active_at = reading.now
        elif reading.now - self._active_at > self._cooldown:
            self._recent.clear()
            return 0
        if reading.now - self._synced < SYNC:
            return None
        self._synced = reading.now
        ratio = reading.ready / (self._target * reading.replicas)
        wanted = reading.replicas if abs(ratio - 1) <= TOLERANCE else max(1, ceil(reading.ready / self._target))
        self._recent.append((reading.now, wanted))
        while self._recent[0][0] < reading.now - self._window:
            self._recent.popleft()
        if wanted > reading.replicas:
            return min(wanted, max(reading.replicas + self._step, ceil(reading.replicas * self._factor)))
        return min(reading.replicas, max(each for _, each in self._recent))

    def _activate(self, reading: Reading) -> int | None:
        if reading.now - self._polled < self._poll:
            return None
        self._polled = reading.now
        if not reading.ready:
            return None
        self._active_at = self._synced = reading.now
        return 1


class Knative:
    """Knative's pod autoscaler (KPA): every 2 s ceil(average concurrency of 60 s / target), of 6 s while that is twice what is
    there (panic, without scaling down); to zero after 30 s without work."""

    interval, empties_pods, look_ahead = 2.0, False, 0.0

    def __init__(self, slots: int, utilization: float = 0.7) -> None:
        self._target = slots * utilization
        self._samples: deque[tuple[float, int]] = deque()
        self._panic_until, self._highest, self._busy_at = -inf, 0, -inf

    def decide(self, reading: Reading | None) -> int | None:
        if reading is None:
            return None
        now, load = reading.now, reading.ready + reading.running
        self._samples.append((now, load))
        while self._samples[0][0] < now - 60:
            self._samples.popleft()
        if load:
            self._busy_at = now
        stable = ceil(self._average(60, now) / self._target)
        panic = ceil(self._average(6, now) / self._target)
        if panic >= 2 * max(1, reading.replicas - reading.starting):
            self._panic_until = now + 60
        if now < self._panic_until:
            self._highest = max(self._highest, panic, reading.replicas)
            return self._highest
        self._highest = 0
        if not load and now - self._busy_at > 30 and stable <= 1:
            return 0
        return max(stable, 1 if reading.replicas else min(1, load))

    def _average(self, window: float, now: float) -> float:
        recent = [load for at, load in self._samples if at > now - window]
        return sum(recent) / len(recent)


class Temporal:
    """Temporal's worker controller: ceil(arrival rate / (0.8 * service rate)) and the backlog; down 90 s after the last time that
    workers were short. May stop busy workers, by its own documentation."""

    interval, empties_pods, look_ahead = 5.0, False, 0.0

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._last: Reading | None = None
        self._rate, self._service = 0.0, 1.0
        self._short_at = -inf

    def decide(self, reading: Reading | None) -> int | None:
        if reading is None:
            return None
        last, self._last = self._last, reading
        if last is not None:
            passed = reading.now - last.now
            self._rate += (1 - 0.5 ** (passed / 30)) * ((reading.enqueued - last.enqueued) / passed - self._rate)
            if reading.finished > last.finished:
                sample = (reading.busy_seconds - last.busy_seconds) / (reading.finished - last.finished)
                self._service += 0.2 * (sample - self._service)
        if reading.ready:
            self._short_at = reading.now
        wanted = ceil(self._rate * self._service / (0.8 * self._slots)) + ceil(reading.ready / self._slots / 4)
        if not reading.ready and not reading.running and reading.now - self._short_at > 90:
            wanted = 0
        if wanted < reading.replicas and reading.now - self._short_at < 90:
            return None
        return max(wanted, min(1, reading.ready))


def keda_default(slots: int) -> Hpa:
    """KEDA as it comes: a poll of 30 s, an HPA with its default behaviour, one task a slot."""
    return Hpa(slots)


def keda_tuned(slots: int, service: float, max_wait: float) -> Hpa:
    """A poll of 5 s, a window of one minute, 100 pods a step, and AWS's backlog per instance: max_wait / service."""
    return Hpa(max(1.0, slots * max_wait / service), poll=5, cooldown=60, window=60, step=100, factor=100)


def hpa_from_zero(slots: int) -> Hpa:
    """The HPA of Kubernetes 1.37, which scales from zero at its own sync."""
    return Hpa(slots, poll=SYNC, cooldown=300)
