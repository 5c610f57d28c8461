"""Staying awake for an answer that comes at once.

A processor that goes to sleep between a question and its answer has to be woken, which on many virtual machines takes longer
than a near server takes to answer. So an event loop may go round without sleeping for a moment, as schedulers and network
drivers do that poll before they wait. Whoever else it serves has a turn each time that it comes round.

It costs the processor's time, so it is tried now and then, and done while it takes at least a fifth off the time to the answer.
"""

import asyncio
from collections import deque
from statistics import median
from time import perf_counter

MOMENT = 150e-6
"""Seconds for which a loop stays awake at most."""
WORTH = 0.8
"""Awake an answer must come within this share of the time that it takes otherwise."""
EPOCH, TRIALS = 1024, 8
"""Of so many questions, the first ones are trials: so many asleep, then so many awake."""
REMEMBERED = 2 * TRIALS
"""So many trials of each way are compared. Their medians: a failover or a slow neighbour says nothing of either way."""


class SpinWait:
    """Entered while a question is under way, and no other with it. Belongs to one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._worth = Worth()
        self._began = self._until = 0.0
        self._goes_round = False

    def __enter__(self) -> None:
        self._began = perf_counter()
        if self._worth.stay_awake():
            self._until = self._began + MOMENT
            if not self._goes_round:
                self._go_round()

    def __exit__(self, *_: object) -> None:
        self._until = 0.0
        if self._worth.on_trial:
            self._worth.learn(perf_counter() - self._began)

    def _go_round(self) -> None:
        self._goes_round = perf_counter() < self._until
        if self._goes_round:
            self._loop.call_soon(self._go_round)


class Worth:
    """Whether answers come sooner to who is awake, by trials of both ways."""

    def __init__(self) -> None:
        self.on_trial = True  # whether the last question was asked to learn from it
        self._asked = 0
        self._prefers = False
        self._asleep: deque[float] = deque(maxlen=REMEMBERED)
        self._awake: deque[float] = deque(maxlen=REMEMBERED)

    def stay_awake(self) -> bool:
        """Which way the next question is to be asked."""
        self._asked = self._asked % EPOCH + 1
        self.on_trial = self._asked <= 2 * TRIALS
        return self._asked > TRIALS if self.on_trial else self._prefers

    def learn(self, seconds: float) -> None:
        """So long the answer to a trial took."""
        (self._awake if self._asked > TRIALS else self._asleep).append(seconds)
        if self._asked == 2 * TRIALS:
            self._prefers = median(self._awake) < WORTH * median(self._asleep)
