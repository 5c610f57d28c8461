"""What a worker tells: metrics over HTTP, linked traces, one JSON object a line."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stoker import Context, Dead, Retry, Stoker
from stoker.app.app import application_of
from stoker.rules.call import TaskCall
from stoker.rules.states import TaskState
from stoker.telemetry.logs import JsonFormatter, TextFormatter
from stoker.telemetry.tracing import Tracing
from tests.redis_servers import free_port
from tests.stories.observing import probe, samples
from tests.stories.working import working
from tests.waiting import until


async def test_the_metrics_page_counts_what_happened(app: Stoker) -> None:
    port = free_port()

    @app.task()
    async def ship(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError("again")

    @app.task()
    async def charge() -> None:
        raise Dead("expired")

    async with working(app, port=port, concurrency=3):
        idle = await samples(port)
        assert idle["stoker_worker_slots{namespace=stoker,queue=default,state=free}"] == 3
        assert idle["stoker_worker_slots{namespace=stoker,queue=default,state=busy}"] == 0
        done = await ship.enqueue()
        await charge.enqueue()
        await app.enqueue_many([TaskCall("a_name_made_up_by_a_stranger", "default")])
        await done.result(timeout=5)
        counted = await until(lambda: when_counted(port))
    label = "namespace=stoker,queue=default,task=ship"
    assert counted[f"stoker_tasks_started_total{{{label}}}"] == 2
    assert counted[f"stoker_tasks_succeeded_total{{{label}}}"] == 1
    assert counted[f"stoker_tasks_failed_total{{{label}}}"] == 1
    assert counted[f"stoker_tasks_retried_total{{{label}}}"] == 1
    assert counted[f"stoker_task_duration_seconds_count{{{label}}}"] == 2
    assert counted[f"stoker_task_queue_wait_seconds_count{{{label}}}"] == 2
    assert counted["stoker_tasks_dead_total{namespace=stoker,queue=default,task=charge}"] == 1
    assert counted["stoker_tasks_started_total{namespace=stoker,queue=default,task=other}"] == 1
    assert not any("made_up" in name for name in counted), "labels are declared names only"


async def when_counted(port: int) -> dict[str, float]:
    counted = await samples(port)
    dead, other = (
        "stoker_tasks_dead_total{namespace=stoker,queue=default,task=charge}",
        "stoker_tasks_started_total{namespace=stoker,queue=default,task=other}",
    )
    return counted if counted.get(dead) and counted.get(other) else {}


async def test_the_page_says_where_things_are(app: Stoker) -> None:
    port = free_port()
    async with working(app, port=port):
        await until(lambda: says(port, (200, "ok\n")))
        assert await probe(port, "/startz") == (200, "ok\n")
        assert await probe(port, "/livez") == (200, "ok\n")
        assert await probe(port, "/readyz?verbose") == (200, "ok\n")
        assert await probe(port, "/else") == (404, "try /startz, /livez, /readyz, /metrics or /drain\n")


async def test_a_draining_worker_is_not_ready(app: Stoker) -> None:
    import signal

    port, begun, may_end = free_port(), asyncio.Event(), asyncio.Event()

    @app.task()
    async def long() -> None:
        begun.set()
        await may_end.wait()

    await long.enqueue()
    async with working(app, port=port) as running:
        await begun.wait()
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: says(port, (503, "draining\n")))
        assert (await probe(port, "/livez"))[0] == 200
        may_end.set()
        await asyncio.wait_for(running, 5)


async def says(port: int, answer: tuple[int, str]) -> bool:
    return await probe(port, "/readyz") == answer


@pytest.fixture
def spans(app: Stoker) -> Iterator[InMemorySpanExporter]:
    """All spans that the application ends, in memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    application_of(app).tracing = Tracing(provider)
    yield exporter
    provider.shutdown()


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


async def test_every_run_is_linked_to_the_enqueue_also_after_a_retry(app: Stoker, spans: InMemorySpanExporter) -> None:
    @app.task()
    async def ship(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError("no van")

    handle = await ship.options(delay=0.05).enqueue()
    async with working(app):
        await handle.result(timeout=8)

    [sent] = named(spans, "send default")
    failed, succeeded = named(spans, "process default")
    assert (sent.kind, failed.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert sent.context is not None
    for run in (failed, succeeded):
        assert [link.context.span_id for link in run.links] == [sent.context.span_id]
        assert run.parent is None, "a run may come days later: linked, not a child"
        assert run.attributes is not None
        assert run.attributes["messaging.message.id"] == handle.id
    assert [run.attributes["stoker.attempt"] for run in (failed, succeeded) if run.attributes] == [1, 2]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "ValueError"
    assert succeeded.status.status_code is StatusCode.UNSET


async def test_what_a_task_enqueues_belongs_to_its_run(app: Stoker, spans: InMemorySpanExporter) -> None:
    @app.task()
    async def second() -> None: ...

    @app.task()
    async def first() -> str:
        return (await second.enqueue()).id

    handle = await first.enqueue()
    async with working(app):
        child = await handle.result(timeout=5)
        await until(lambda: is_done(app, child))
        await until(lambda: len(named(spans, "process default")) == 2)
    outer = next(span for span in named(spans, "process default") if dict(span.attributes or {})["stoker.task"] == "first")
    inner_send = named(spans, "send default")[1]
    assert inner_send.parent is not None
    assert outer.context is not None
    assert inner_send.parent.span_id == outer.context.span_id


async def is_done(app: Stoker, task_id: str) -> bool:
    return (await app.client.status("default", task_id)).state is TaskState.SUCCEEDED


async def test_a_batch_is_one_span(app: Stoker, spans: InMemorySpanExporter) -> None:
    @app.task()
    async def ship(order: int) -> None: ...

    await app.enqueue_many([ship.options().prepare(number) for number in range(3)])
    [sent] = named(spans, "send default")
    assert sent.attributes is not None
    assert sent.attributes["messaging.batch.message_count"] == 3


async def test_a_traceparent_from_outside_that_is_none_does_no_harm(app: Stoker, spans: InMemorySpanExporter) -> None:
    from stoker.queue.broker import Broker
    from stoker.queue.keys import Keys
    from stoker.redis.connect import connect
    from stoker.rules.admission import Admission
    from stoker.rules.message import Message, check_payload

    @app.task()
    async def ship() -> None: ...

    message = Message("x", "ship", check_payload(b"{}"), "default", 1, trace={"traceparent": "nonsense"})
    redis = connect(app.redis_url)
    await Broker(redis, Keys(app.namespace, "default")).enqueue([Admission(message)])
    await redis.aclose()
    async with working(app):
        await until(lambda: is_done(app, "x"))
        await until(lambda: named(spans, "process default"))
    assert list(named(spans, "process default")[0].links) == []


def lines(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


async def test_the_log_tells_every_tasks_story_with_its_id(app: Stoker, log: io.StringIO) -> None:
    @app.task(retry=Retry(max_retries=1, initial_delay=0.01))
    async def ship(ctx: Context) -> None:
        ctx.log.info("loading the van", extra={"boxes": 3})
        raise ValueError("no van \udcff")

    handle = await ship.enqueue()
    async with working(app):
        await until(lambda: is_dead(app, handle.id))
    told = [line for line in lines(log) if line.get("task_id") == handle.id]
    assert [line["message"] for line in told] == [
        "loading the van",
        "task failed, will be retried",
        "loading the van",
        "task dead",
    ]
    assert [line["level"] for line in told] == ["info", "warning", "info", "error"]
    assert [line["attempt"] for line in told] == [1, 1, 2, 2]
    assert told[0]["boxes"] == 3
    assert str(told[1]["error"]).startswith("ValueError: no van")
    assert all(str(line["time"]).endswith("+00:00") for line in told)


async def is_dead(app: Stoker, task_id: str) -> bool:
    return (await app.client.status("default", task_id)).state is TaskState.DEAD


async def test_log_lines_within_a_run_carry_its_trace(app: Stoker, spans: InMemorySpanExporter, log: io.StringIO) -> None:
    @app.task()
    async def ship(ctx: Context) -> None:
        ctx.log.info("loading")

    async with working(app):
        await (await ship.enqueue()).result(timeout=5)
    [loading] = [line for line in lines(log) if line["message"] == "loading"]
    [run] = named(spans, "process default")
    assert run.context is not None
    assert loading["trace_id"] == f"{run.context.trace_id:032x}"


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"path": "\udcff"}, id="text that is no Unicode"),
        pytest.param({"big": 2**80}, id="a huge number"),
        pytest.param({"thing": object()}, id="any object"),
        pytest.param({"level": "mine", "time": 1}, id="names that the line has already"),
        pytest.param({"keys": {(1, 2): 3}}, id="keys that are no text"),
    ],
)
def test_no_log_line_is_too_odd_to_be_written(extra: dict[str, object]) -> None:
    record = logging.makeLogRecord({"msg": "hello", "levelname": "INFO", "levelno": 20, "name": "shop", **extra})
    line = json.loads(JsonFormatter().format(record))
    assert (line["message"], line["level"]) == ("hello", "info")
    assert "hello" in TextFormatter().format(record)
