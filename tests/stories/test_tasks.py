"""Tasks, as an application sees them: declare, enqueue, wait."""

import asyncio
import dataclasses
import io
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stoker import Conflict, Context, Dead, Invalid, NotFound, ResultPending, Retry, Stoker, TaskFailed
from stoker.rules.call import TaskCall
from stoker.rules.message import check_payload
from stoker.rules.states import TaskState
from tests.stories.working import AT_ONCE, worker_process, working
from tests.waiting import until


@dataclasses.dataclass
class Receipt:
    total: int
    at: datetime


async def test_a_task_runs_and_its_result_has_its_type(app: Stoker) -> None:
    @app.task()
    async def buy(price: int, at: datetime) -> Receipt:
        return Receipt(price * 2, at)

    handle = await buy.enqueue(21, at=datetime(2030, 1, 1, tzinfo=UTC))
    async with working(app):
        assert await handle.result(timeout=5) == Receipt(42, datetime(2030, 1, 1, tzinfo=UTC))
    assert (await handle.status()).state is TaskState.SUCCEEDED


async def test_without_any_patience_it_looks_once(app: Stoker) -> None:
    @app.task()
    async def buy(price: int) -> int:
        return price * 2

    handle = await buy.enqueue(21)
    with pytest.raises(ResultPending, match="within 0 s"):
        await handle.result(timeout=0)
    async with working(app):
        await handle.result(timeout=5)
        assert await handle.result(timeout=0) == 42


async def test_an_id_is_enough_to_come_back_to_a_task(app: Stoker) -> None:
    @app.task()
    async def buy(price: int) -> Receipt:
        return Receipt(price * 2, datetime(2030, 1, 1, tzinfo=UTC))

    await buy.options(id="order-7").enqueue(21)
    await buy.options(id="order-8", queue="slow").enqueue(1)
    async with working(app):
        assert (await buy.handle("order-7").result(timeout=5)).total == 42
    assert (await buy.handle("order-8", queue="slow").status()).state is TaskState.READY
    assert await buy.handle("order-8", queue="slow").cancel() == "cancelled"
    with pytest.raises(NotFound, match="'order-9'"):
        await buy.handle("order-9").status()
    with pytest.raises(Invalid, match="bad task id"):
        buy.handle("order 9")


async def test_calling_a_task_is_calling_its_function(app: Stoker) -> None:
    @app.task()
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    assert add(2, 3) == 5
    assert (add.__name__, add.__doc__) == ("add", "Add.")


async def test_a_plain_function_runs_in_a_thread_and_does_not_block_the_loop(app: Stoker) -> None:
    @app.task()
    def sleep(seconds: float) -> str:
        time.sleep(seconds)
        return threading.current_thread().name

    handles = [await sleep.enqueue(0.3) for _ in range(4)]
    async with working(app, concurrency=4):
        started = time.monotonic()
        names = [await handle.result(timeout=5) for handle in handles]
    assert all(name.startswith("stoker-task") for name in names)
    assert time.monotonic() - started < 4 * 0.3 + 0.6


async def test_defaults_of_the_function_are_its_own(app: Stoker) -> None:
    @app.task()
    async def greet(name: str = "world", *, loudly: bool = False) -> str:
        return f"hello {name}{'!' if loudly else ''}"

    async with working(app):
        assert await (await greet.enqueue()).result(timeout=5) == "hello world"
        assert await (await greet.enqueue("you", loudly=True)).result(timeout=5) == "hello you!"


async def test_a_failing_task_is_tried_again_and_then_succeeds(app: Stoker) -> None:
    runs: list[tuple[int, float]] = []

    @app.task(retry=Retry(max_retries=3, initial_delay=0.1, multiplier=3, jitter=AT_ONCE.jitter))
    async def flaky(ctx: Context) -> int:
        runs.append((ctx.attempt, time.monotonic()))
        if ctx.attempt < 3:
            raise ConnectionError("not yet")
        return ctx.attempt

    handle = await flaky.enqueue()
    async with working(app):
        assert await handle.result(timeout=8) == 3
    assert [attempt for attempt, _ in runs] == [1, 2, 3]
    first, second, third = (at for _, at in runs)
    assert second - first >= 0.1
    assert third - second >= 0.3


async def test_after_its_last_retry_it_is_buried(app: Stoker) -> None:
    runs = []

    @app.task()
    async def hopeless(ctx: Context) -> None:
        runs.append(ctx.attempt)
        raise ValueError("no stock")

    handle = await hopeless.options(retry=2).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="ValueError: no stock"):
            await handle.result(timeout=5)
    assert runs == [1, 2, 3]
    status = await handle.status()
    assert status.state is TaskState.DEAD
    assert status.failure is not None
    assert "in hopeless" in status.failure.traceback


async def test_a_task_may_say_that_it_can_never_succeed(app: Stoker) -> None:
    runs = []

    @app.task()
    async def charge() -> None:
        runs.append(1)
        raise Dead("the card has expired")

    handle = await charge.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="the card has expired"):
            await handle.result(timeout=5)
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        pytest.param(b'{"order": "seven"}', "order", id="another type"),
        pytest.param(b"{}", "order", id="one is missing"),
        pytest.param(b'{"order": 7, "colour": "red"}', "colour", id="one too many"),
    ],
)
async def test_arguments_that_do_not_fit_are_buried_at_once_by_name(app: Stoker, payload: bytes, words: str) -> None:
    """Another program may send anything: the worker checks what arrives against the type hints."""

    @app.task()
    async def ship(order: int) -> None:
        raise AssertionError("never runs")

    [receipt] = await app.enqueue_many([TaskCall("ship", "default", check_payload(payload))])
    async with working(app):
        await until(lambda: is_dead(app, receipt.id))
    status = await app.client.status("default", receipt.id)
    assert status.failure is not None
    assert status.failure.type == "InvalidArguments"
    assert words in status.failure.message


async def is_dead(app: Stoker, task_id: str) -> bool:
    return (await app.client.status("default", task_id)).state is TaskState.DEAD


async def test_arguments_that_do_not_fit_are_refused_before_they_are_sent(app: Stoker) -> None:
    @app.task()
    async def ship(order: int, ctx: Context) -> None: ...

    for arguments in ((), (1, 2), (object(),)):
        with pytest.raises(Invalid):
            await ship.enqueue(*arguments)  # type: ignore[arg-type]
    assert [stats.totals.enqueued for stats in await app.client.inspector.stats(["default"])] == [0]


async def test_an_unknown_task_waits_for_a_worker_that_knows_it(app: Stoker, redis_url: str) -> None:
    """During a rollout an old worker meets tasks that only the new one knows. Nothing has to be redriven by hand."""
    [receipt] = await app.enqueue_many([TaskCall("of_the_next_version", "default")])
    async with working(app):
        await until(lambda: is_unclaimed(app, receipt.id))
    status = await app.client.status("default", receipt.id)
    assert (status.state, status.attempts, status.failure) == (TaskState.READY, 0, None)
    new = Stoker("shop", redis=redis_url)

    @new.task()
    async def of_the_next_version() -> None: ...

    async with working(new):
        await until(lambda: is_done(app, receipt.id))
    await new.close()


async def test_a_worker_that_knows_a_task_gets_it_beside_one_that_does_not(app: Stoker, redis_url: str, tmp_path: Path) -> None:
    """Two applications on one queue: nothing is buried or set aside for good while a worker lives that knows it."""
    with worker_process(redis_url, tmp_path):
        async with working(app):
            [receipt] = await app.enqueue_many([TaskCall("where", "default")])
            await until(lambda: is_done(app, receipt.id))


async def is_unclaimed(app: Stoker, task_id: str) -> bool:
    return (await app.client.status("default", task_id)).unclaimed is not None


async def is_done(app: Stoker, task_id: str) -> bool:
    return (await app.client.status("default", task_id)).state is TaskState.SUCCEEDED


async def test_an_old_worker_hands_back_what_only_a_new_one_understands(app: Stoker, redis_url: str) -> None:
    """During a rollout both serve the queue. The new parameters would not fit, and a call that does not fit is buried."""
    new = Stoker("shop", redis=redis_url)

    @app.task(name="invoice", version=1)
    async def old_invoice(order: int) -> str:
        return "old"

    @new.task(name="invoice", version=2)
    async def invoice(order: int, currency: str = "EUR") -> str:
        return currency

    handle = await invoice.enqueue(7, currency="CHF")
    async with working(app):
        status = await until(lambda: postponed(handle))
        assert (status.attempts, status.losses) == (0, 0)
        assert await (await old_invoice.enqueue(7)).result(timeout=5) == "old"
    earlier = await old_invoice.options(id="earlier").enqueue(8)
    async with working(new):
        assert await handle.result(timeout=10) == "CHF"
        assert (await earlier.status()).task == "invoice"
        assert await earlier.result(timeout=5) == "EUR"
    await new.close()


async def postponed(handle: Any) -> Any:
    status = await handle.status()
    return status if status.unclaimed is not None else None


async def test_a_task_that_takes_too_long_is_stopped_and_counts_as_failed(app: Stoker) -> None:
    stopped = []

    @app.task(timeout=0.1, retry=Retry(max_retries=0))
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(True)

    handle = await slow.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match=r"TaskTimeout: did not end within 0\.1 s"):
            await handle.result(timeout=5)
    assert stopped == [True]


async def test_a_time_out_of_the_tasks_own_is_its_own_failure(app: Stoker) -> None:
    @app.task(timeout=30, retry=Retry(max_retries=0))
    async def call() -> None:
        raise TimeoutError("the bank did not answer")

    handle = await call.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="TimeoutError: the bank"):
            await handle.result(timeout=5)


async def test_one_call_may_have_another_timeout(app: Stoker) -> None:
    @app.task(timeout=60, retry=Retry(max_retries=0))
    async def slow() -> None:
        await asyncio.sleep(60)

    handle = await slow.options(timeout=0.1).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="TaskTimeout"):
            await handle.result(timeout=5)


async def test_the_urgent_go_first(app: Stoker) -> None:
    order: list[str] = []

    @app.task()
    async def mail(name: str) -> None:
        order.append(name)

    @app.task(priority=5)
    async def alarm(name: str) -> None:
        order.append(name)

    await mail.enqueue("plain")
    await mail.options(priority=-1).enqueue("newsletter")
    await alarm.enqueue("fire")
    await mail.options(priority=9).enqueue("very urgent")
    async with working(app, concurrency=1):
        await until(lambda: len(order) == 4)
    assert order == ["very urgent", "fire", "plain", "newsletter"]


async def test_many_at_once_keep_their_order(app: Stoker) -> None:
    order: list[int] = []

    @app.task()
    async def step(number: int) -> None:
        order.append(number)

    receipts = await app.enqueue_many([step.options().prepare(number) for number in range(500)])
    assert len({receipt.id for receipt in receipts}) == 500
    async with working(app, concurrency=1):
        await until(lambda: len(order) == 500)
    assert order == list(range(500))


async def test_a_delayed_task_runs_when_it_is_due(app: Stoker) -> None:
    @app.task()
    async def remind() -> float:
        return time.time()

    sent = time.time()
    by_delay = await remind.options(delay=0.5).enqueue()
    by_moment = await remind.options(run_at=datetime.now(UTC) + timedelta(seconds=0.7)).enqueue()
    async with working(app):
        assert await by_delay.result(timeout=5) - sent >= 0.499
        late = await by_moment.result(timeout=5) - sent - 0.7
    assert -0.001 <= late < 3


async def test_a_delay_longer_than_the_lease_runs_once(app: Stoker) -> None:
    """A task that waits for its time is under no lease: nobody takes it back, and nobody runs it twice."""
    runs: list[int] = []

    @app.task()
    async def remind(ctx: Context) -> None:
        runs.append(ctx.attempt)

    async with working(app):  # with a lease of one second
        handle = await remind.options(delay=2.2).enqueue()
        await handle.result(timeout=10)
        again = await remind.options(delay=1.2).enqueue()
        await again.result(timeout=10)
    assert runs == [1, 1]
    assert (await app.client.inspector.stats(["default"]))[0].totals.lost == 0


async def test_an_id_of_ones_own_makes_an_enqueue_safe_to_repeat(app: Stoker) -> None:
    runs = []

    @app.task()
    async def ship(order: int) -> None:
        runs.append(order)

    first = await ship.options(id="order-42").enqueue(42)
    again = await ship.options(id="order-42").enqueue(42)
    assert (first.duplicate, again.duplicate, again.id) == (False, True, "order-42")
    async with working(app):
        await again.result(timeout=5)
    assert runs == [42]


async def test_another_task_under_the_same_id_is_a_conflict(app: Stoker) -> None:
    @app.task()
    async def ship(order: int) -> None: ...

    await ship.options(id="order-42").enqueue(42)
    with pytest.raises(Conflict, match="order-42"):
        await ship.options(id="order-42").enqueue(43)


async def test_a_task_may_know_of_itself(app: Stoker) -> None:
    @app.task(name="shop.about")
    async def about(ctx: Context) -> dict[str, str | int]:
        return {"id": ctx.id, "task": ctx.task, "queue": ctx.queue, "attempt": ctx.attempt, "fence": ctx.fence}

    handle = await about.enqueue()
    async with working(app):
        known = await handle.result(timeout=5)
    fence = known.pop("fence")
    assert known == {"id": handle.id, "task": "shop.about", "queue": "default", "attempt": 1}
    assert str(fence) > ""


async def test_a_result_that_json_cannot_carry_is_not_run_twice(app: Stoker) -> None:
    runs = []

    @app.task()
    async def odd() -> object:
        runs.append(1)
        return object()

    handle = await odd.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="ResultNotJSON"):
            await handle.result(timeout=5)
    assert len(runs) == 1


async def test_a_result_that_is_too_large_is_not_run_twice(app: Stoker) -> None:
    """Results live in Redis' memory: what is larger than a payload may be has to be stored elsewhere."""
    runs = []

    @app.task()
    async def large() -> str:
        runs.append(1)
        return "x" * 300_000

    handle = await large.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match=r"ResultTooLarge: large returned 300002 bytes.*store it elsewhere"):
            await handle.result(timeout=5)
    assert len(runs) == 1


async def test_patience_has_an_end(app: Stoker) -> None:
    @app.task()
    async def never() -> None: ...

    handle = await never.enqueue()
    with pytest.raises(ResultPending, match=r"0\.05 s"):
        await handle.result(timeout=0.05)


async def test_a_task_that_never_was_is_not_found(app: Stoker) -> None:
    with pytest.raises(NotFound, match="order-1"):
        await app.client.status("default", "order-1")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raises_stop_iteration() -> None:
    next(iter([]))


def raises_text_that_is_no_unicode() -> None:
    raise FileNotFoundError("no such file: \udcff")


def raises_without_words() -> None:
    raise Mute


def exits() -> None:
    raise SystemExit(1)


def is_dead_with_odd_words() -> None:
    raise Dead("\udcff")


def cancels() -> None:
    raise asyncio.CancelledError


def returns_odd_text() -> str:
    return "\udcff"


ODD = [
    raises_stop_iteration,
    raises_text_that_is_no_unicode,
    raises_without_words,
    exits,
    is_dead_with_odd_words,
    cancels,
    returns_odd_text,
]


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("fail", ODD, ids=lambda fail: fail.__name__.replace("_", " "))
async def test_no_failure_is_too_odd_to_be_recorded(app: Stoker, fail: object, kind: str) -> None:
    """However a task fails, it is buried in the end, and the worker goes on with the next."""

    @app.task(retry=Retry(max_retries=1, initial_delay=0.01))
    async def odd() -> None:
        return fail()  # type: ignore[operator,no-any-return]

    @app.task(name="odd_thread", retry=Retry(max_retries=1, initial_delay=0.01))
    def odd_in_a_thread() -> None:
        return fail()  # type: ignore[operator,no-any-return]

    @app.task()
    async def next_one() -> str:
        return "fine"

    failing = await (odd if kind == "async" else odd_in_a_thread).enqueue()
    async with working(app, concurrency=1):
        with pytest.raises(TaskFailed):
            await failing.result(timeout=5)
        assert await (await next_one.enqueue()).result(timeout=5) == "fine"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"delay": -1}, id="a delay into the past"),
        pytest.param({"delay": float("nan")}, id="a delay that is no number"),
        pytest.param({"delay": float("inf")}, id="a delay for ever"),
        pytest.param({"delay": 1, "run_at": datetime(2030, 1, 1, tzinfo=UTC)}, id="a delay and a moment"),
        pytest.param({"priority": 101}, id="more urgent than urgent"),
        pytest.param({"priority": 1.5}, id="half a priority"),
        pytest.param({"queue": "No Queue"}, id="a queue name with a blank"),
        pytest.param({"id": "a b"}, id="an id with a blank"),
        pytest.param({"id": ""}, id="an empty id"),
        pytest.param({"retry": -1}, id="fewer than no retries"),
        pytest.param({"retry": "3"}, id="retries in quotes"),
        pytest.param({"timeout": 0}, id="no time at all"),
        pytest.param({"timeout": float("nan")}, id="a timeout that is no number"),
    ],
)
async def test_options_out_of_range_are_refused_before_anything_is_sent(app: Stoker, options: dict[str, object]) -> None:
    @app.task()
    async def ship() -> None: ...

    with pytest.raises(Invalid):
        await ship.options(**options).enqueue()  # type: ignore[arg-type]
    assert [stats.totals.enqueued for stats in await app.client.inspector.stats(["default"])] == [0]


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param({"queue": "No Queue"}, id="a queue name with a blank"),
        pytest.param({"priority": -101}, id="less than least"),
        pytest.param({"timeout": 0}, id="no time at all"),
        pytest.param({"timeout": -5.0}, id="negative time"),
    ],
)
def test_a_declaration_out_of_range_is_refused(policy: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        Stoker("shop").task(**policy)  # type: ignore[call-overload]


def test_two_tasks_of_one_name_are_refused() -> None:
    app = Stoker("shop")

    def ship() -> None: ...

    app.task()(ship)
    with pytest.raises(Invalid, match="ship"):
        app.task()(ship)


def test_star_parameters_have_no_name_on_the_wire() -> None:
    with pytest.raises(Invalid, match="numbers"):

        @Stoker("shop").task()
        def add(*numbers: int) -> None: ...


def test_one_application_serves_two_event_loops(redis_url: str) -> None:
    """A web server under test, or Flask calling asyncio.run: every loop has connections of its own."""
    app = Stoker("shop", redis=redis_url)

    @app.task()
    async def ship(order: int) -> None: ...

    async def send(order: int) -> str:
        handle = await ship.enqueue(order)
        await app.close()
        return handle.id

    ids = [asyncio.run(send(order)) for order in (1, 2)]

    async def states() -> list[TaskState]:
        found = [(await app.client.status("default", task_id)).state for task_id in ids]
        await app.close()
        return found

    assert asyncio.run(states()) == [TaskState.READY, TaskState.READY]


def test_the_environment_wins_over_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_REDIS_URL", "redis://elsewhere:1/0")
    monkeypatch.setenv("STOKER_NAMESPACE", "production")
    app = Stoker("shop", redis="redis://localhost", namespace="development")
    assert (app.redis_url, app.namespace) == ("redis://elsewhere:1/0", "production")


async def test_parents_that_wait_in_all_slots_are_logged_and_explained(app: Stoker, log: io.StringIO) -> None:
    """Their children are in the same queue, and find no slot."""
    may_end = asyncio.Event()

    @app.task()
    async def child() -> int:
        return 1

    @app.task()
    async def parent() -> None:
        handles = [await child.enqueue(), await child.enqueue()]
        waiting = asyncio.gather(*(handle.result() for handle in handles))
        await may_end.wait()
        waiting.cancel()

    parents = [await parent.enqueue() for _ in range(2)]
    async with working(app, concurrency=2):
        await until(lambda: "wait for tasks of their own queue" in log.getvalue())
        late = await child.enqueue()
        await until(lambda: says(late, "2 of them with tasks that wait for other tasks of this queue"))
        may_end.set()
        for handle in [*parents, late]:
            await handle.result(timeout=10)
    assert log.getvalue().count("wait for tasks of their own queue") == 1


async def says(handle: Any, words: str) -> bool:
    return any(words in reason.text for reason in (await handle.explain()).reasons)
