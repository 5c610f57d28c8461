"""When an event loop stays awake for an answer, and that nobody else waits longer for it."""

import asyncio
import selectors
from collections.abc import Iterator
from random import Random

import pytest

from stoker.redis.spin_wait import EPOCH, TRIALS, SpinWait, Trials

QUESTIONS = 20 * EPOCH


def awake_share(asleep: float, awake: float, trials: Trials | None = None, questions: int = QUESTIONS) -> float:
    """Of so many questions to a server that takes so long either way, give or take a tenth, and now and then an eternity."""
    random, trials, count = Random(7), trials or Trials(), 0
    for _ in range(questions):
        stays = trials.should_spin()
        count += stays
        if trials.on_trial:
            slow = 50 if random.random() < 0.02 else 1
            trials.learn((awake if stays else asleep) * random.uniform(0.9, 1.1) * slow)
    return count / questions


def test_it_is_tried_both_ways_first_and_then_as_it_was_better() -> None:
    trials = Trials()
    ways = []
    for _ in range(EPOCH):
        ways.append(trials.should_spin())
        if trials.on_trial:
            trials.learn(1.0 if ways[-1] else 2.0)
    assert ways == [False] * TRIALS + [True] * (EPOCH - TRIALS)


@pytest.mark.parametrize(
    ("asleep", "awake"),
    [
        pytest.param(400.0, 390.0, id="a network away: the processor's time would be wasted"),
        pytest.param(60.0, 70.0, id="one processor for both: it keeps the server from its work"),
        pytest.param(100.0, 90.0, id="a little sooner is not trials it"),
    ],
)
def test_where_it_is_not_trials_it_next_to_nothing_is_spent(asleep: float, awake: float) -> None:
    assert awake_share(asleep, awake) == TRIALS / EPOCH


def test_where_wakes_are_slow_it_stays_awake() -> None:
    assert awake_share(150.0, 95.0) == 1 - TRIALS / EPOCH


def test_it_learns_that_the_server_has_moved() -> None:
    trials = Trials()
    awake_share(150.0, 95.0, trials)
    assert awake_share(500.0, 480.0, trials, 5 * EPOCH) < 0.8, "within a few epochs"
    assert awake_share(500.0, 480.0, trials) == TRIALS / EPOCH
    awake_share(150.0, 95.0, trials, 5 * EPOCH)
    assert awake_share(150.0, 95.0, trials) == 1 - TRIALS / EPOCH


class Watched(selectors.DefaultSelector):
    """Remembers for how long the loop would have slept. One that would sleep until something happens has its answer then."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps: list[float | None] = []
        self.answer: asyncio.Future[None] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.sleeps.append(timeout)
        if timeout is None and self.answer:
            self.answer.set_result(None)
            return []
        return super().select(timeout)


@pytest.fixture
def loop() -> Iterator[asyncio.SelectorEventLoop]:
    loop = asyncio.SelectorEventLoop(Watched())
    yield loop
    loop.close()


def answered(loop: asyncio.SelectorEventLoop, *, awake: bool) -> list[float | None]:
    """How long the loop slept between a question and its answer."""
    selector: Watched = loop._selector  # type: ignore[attr-defined]

    async def ask() -> list[float | None]:
        spin_wait = SpinWait()
        for _ in range(TRIALS + 1 if awake else 1):
            with spin_wait:
                pass
        selector.sleeps.clear()
        with spin_wait:
            selector.answer = loop.create_future()
            await selector.answer
            selector.answer = None
        return selector.sleeps

    return loop.run_until_complete(ask())


def test_awake_the_loop_goes_round_without_sleeping(loop: asyncio.SelectorEventLoop) -> None:
    assert answered(loop, awake=True)[0] == 0
    assert answered(loop, awake=False)[0] is None


def test_others_have_their_turn_each_time_and_one_vigil_goes_round_once(loop: asyncio.SelectorEventLoop) -> None:
    async def scenario() -> None:
        spin_wait, rounds = SpinWait(), 0
        for _ in range(TRIALS):
            with spin_wait:
                pass
        for _ in range(3):  # each begins before the last has come round
            with spin_wait:
                pass
        with spin_wait:
            for _ in range(5):
                await asyncio.sleep(0)
                rounds += 1
                assert len(loop._ready) <= 1, "one callback of the spin_wait's, however many there have been"  # type: ignore[attr-defined]
        assert rounds == 5

    loop.run_until_complete(scenario())
