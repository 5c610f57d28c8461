"""What one client may take from the others: the event loop, memory, sockets, and the size of an answer."""

import asyncio
import gc
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import redis
import uvicorn

from stoker.client.client import Client
from stoker.gateway.app import create_app
from stoker.gateway.connections import WAITS, Wait
from stoker.gateway.limits import MAX_BATCH_BYTES, MAX_BODIES_BYTES
from stoker.gateway.serve import settings
from stoker.queue.keys import Keys, catalogue
from tests.gateway.gateway_process import gateway
from tests.waiting import until

JSON = {"content-type": "application/json"}
LONGEST_STEP = 0.1
"""Seconds of CPU time for one turn of the event loop, so that a busy machine does not count."""


HEAD = b"POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\n"
SOON = 0.3


class Steps:
    """The longest step of the event loop so far."""

    longest = 0.0


@asynccontextmanager
async def watched_loop() -> AsyncIterator[Steps]:
    steps = Steps()

    async def watch() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            steps.longest = max(steps.longest, time.thread_time() - before)

    gc.freeze()  # as the process does at its start
    watching = asyncio.create_task(watch())
    try:
        yield steps
    finally:
        watching.cancel()
        gc.unfreeze()


def task_with(payload: bytes) -> bytes:
    return b'{"task":"t","payload":{"a":' + payload + b"}}"


def filled(before: bytes, part: bytes, after: bytes, size: int) -> bytes:
    return before + b",".join([part] * ((size - len(before) - len(after)) // (len(part) + 1))) + after


ATTACKS = {
    "lists as tasks": (filled(b"[", b"[]", b"]", MAX_BATCH_BYTES), 422),
    "tasks without end": (filled(b"[", b'{"task":"t"}', b"]", MAX_BATCH_BYTES), 422),
    "one task of lists": (filled(b'[{"task":"t","payload":{"a":[', b"[]", b"]}}]", MAX_BATCH_BYTES), 413),
    "one task, deep": (b'[{"task":"t","payload":{"a":' + b"[" * 4_000_000 + b"]" * 4_000_000 + b"}}]", 422),
    "escaped quotes": (b'[{"task":"' + b'\\"' * 4_000_000 + b'"}]', 413),
    "strings": (filled(b'[{"task":"t","payload":{"a":[', b'""', b"]}}]", MAX_BATCH_BYTES), 413),
    "an open string": (b'["' + b"\\" * 8_000_000, 400),
    "brackets of all depths": (filled(b'[{"task":"t","payload":{"a":[', b"[" * 20 + b"]" * 20, b"]}}]", MAX_BATCH_BYTES), 413),
    "what is allowed": (b"[" + b",".join([task_with(filled(b"[", b"[]", b"]", 8_000))] * 1000) + b"]", 202),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_no_body_holds_the_event_loop(api: httpx.AsyncClient, attack: str) -> None:
    body, status = ATTACKS[attack]
    await api.post("/v1/tasks", json={"task": "t"})
    async with watched_loop() as steps:
        answer = await api.post("/v1/tasks/batch", content=body, headers=JSON)
    assert answer.status_code == status
    assert steps.longest < LONGEST_STEP


async def test_the_bodies_of_all_requests_have_a_limit(redis_url: str) -> None:
    """Each may be lawful by itself: 60 of 8 MiB took 566 MB."""
    size, count = MAX_BATCH_BYTES - 1024, 32
    head = HEAD.replace(b"tasks", b"tasks/batch") + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % (size + 1)
    with gateway(redis_url) as (process, port):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            await http.post("/v1/tasks", json={"task": "t"})
            before = resident(process.pid)
            senders = [asyncio.create_task(first_answer(port, head + b" " * size)) for _ in range(count)]
            await until(lambda: sum(sender.done() for sender in senders) >= count - MAX_BODIES_BYTES // size)
            assert resident(process.pid) - before < 2 * MAX_BODIES_BYTES, "256 MB were sent"
            refused = [sender.result() for sender in senders if sender.done()]
            assert {answer.split(b"\r\n")[0] for answer in refused} == {b"HTTP/1.1 503 Service Unavailable"}
            assert all(b"retry-after: 2" in answer and b"urn:stoker:problem:too-busy" in answer for answer in refused)
            assert (await http.get("/healthz")).status_code == 200
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            body = filled(b"[", task_with(b"1" * 100), b"]", 100_000)
            await until(lambda: taken(http, body))


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def taken(http: httpx.AsyncClient, body: bytes) -> bool:
    return (await http.post("/v1/tasks/batch", content=body, headers=JSON)).status_code == 202


async def first_answer(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.readuntil(b"}")
    finally:
        writer.transport.abort()


@asynccontextmanager
async def served(client: Client) -> AsyncIterator[int]:
    """The port of a gateway with real sockets, as uvicorn serves it."""
    server = uvicorn.Server(settings(create_app(client)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server._serve([listener]))  # without its handlers of signals
        await until(lambda: server.started)
        yield listener.getsockname()[1]
        await until(lambda: not server.server_state.connections)
        server.should_exit = True
        await serving


async def seconds_until_closed(port: int, sent: bytes, trickle: bytes = b"") -> float:
    """For which the gateway keeps a connection on which only this is sent, and `trickle` again and again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    writer.write(sent)

    async def dribble() -> None:
        while trickle:
            writer.write(trickle)
            await asyncio.sleep(SOON / 10)

    dribbling = asyncio.create_task(dribble())
    try:
        await reader.read()
    except ConnectionError:
        pass
    finally:
        dribbling.cancel()
        writer.close()
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("wait", "sent", "trickle"),
    [
        pytest.param(Wait.REQUEST, b"", b"", id="nothing"),
        pytest.param(Wait.HEADERS, b"GET", b"", id="half a line"),
        pytest.param(Wait.HEADERS, HEAD, b"x: y\r\n", id="headers that never end"),
        pytest.param(Wait.REQUEST, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", b"", id="nothing after a request"),
        pytest.param(Wait.HEADERS, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\nGET", b" /", id="half a second request"),
        pytest.param(Wait.REST, HEAD + b"content-length: 999999\r\n\r\n", b"x", id="a body that no route reads"),
    ],
)
async def test_a_connection_that_sends_no_request_is_closed(
    client: Client, monkeypatch: pytest.MonkeyPatch, wait: Wait, sent: bytes, trickle: bytes
) -> None:
    for each in Wait:
        monkeypatch.setitem(WAITS, each, SOON if each is wait else 1000)
    async with served(client) as port:
        assert await seconds_until_closed(port, sent, trickle) >= SOON


async def test_an_answer_that_is_not_read_does_not_keep_its_connection(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WAITS, Wait.READER, SOON)
    request = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
    async with served(client) as port:
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.setblocking(False)

            async def gone() -> bool:
                try:
                    deaf.send(request * 10)
                except BlockingIOError:
                    return False
                except OSError:
                    return True
                return False

            await until(gone)


async def test_a_body_of_tiny_chunks_does_not_hold_the_event_loop(client: Client) -> None:
    """The HTTP parser takes 250 ms for the 43,690 chunks of one byte that come in one read of a socket."""
    async with served(client) as port:
        with socket.create_connection(("127.0.0.1", port)) as attacker:
            attacker.sendall(HEAD + b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            attacker.setblocking(False)
            async with watched_loop() as steps:
                sent = 0
                while sent < 1024 * 1024:
                    sent += await send_some(attacker, b"1\r\n1\r\n" * 40_000)
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
                    assert (await http.get("/healthz")).status_code == 200
    assert steps.longest < LONGEST_STEP


async def send_some(sender: socket.socket, data: bytes) -> int:
    try:
        return sender.send(data)
    except BlockingIOError:
        await asyncio.sleep(0.001)
        return 0
    except ConnectionError:
        return 2**30


PAGE_BYTES = 100_000


async def test_statistics_and_names_of_many_queues_come_in_pages(api: httpx.AsyncClient, redis_url: str) -> None:
    names = sorted(f"{'q' * 50}-{number}" for number in range(2500))
    with redis.Redis.from_url(redis_url) as server:
        server.sadd(catalogue("test"), *names)
        counters = dict.fromkeys(("enqueued", "succeeded", "failed", "retried", "lost", "released", "mended", "busy_ms"), 2**63 - 1)
        server.hset(Keys("test", names[0]).stats, mapping=counters)
    for address, most, named in (("/v1/queues", 1000, str), ("/v1/stats", 100, lambda queue: queue["queue"])):
        seen: list[str] = []
        after = ""
        async with watched_loop() as steps:
            while after is not None:
                answer = await api.get(address, params={"after": after})
                assert len(answer.content) < PAGE_BYTES
                page = answer.json()
                assert len(page["queues"]) <= most
                assert page.get("all") is None, "sums of one page would pass for those of all queues"
                seen += map(named, page["queues"])
                after = page["next"]
        assert seen == names
        assert steps.longest < LONGEST_STEP
        assert (await api.get(address, params={"limit": most + 1})).status_code == 422
        assert len((await api.get(address, params={"limit": 3, "after": names[-3]})).json()["queues"]) == 2


async def test_a_page_of_large_tasks_is_short(api: httpx.AsyncClient) -> None:
    tasks = [
        {"task": "t", "queue": "q", "id": f"t{n:02}", "payload": {"a": "x" * size}}
        for n, size in enumerate([20_000] * 30 + [200_000])
    ]
    await api.post("/v1/tasks/batch", json=tasks)
    seen: list[str] = []
    cursor = 0
    while cursor is not None:
        answer = await api.get("/v1/tasks", params={"queue": "q", "cursor": cursor, "limit": 100})
        page = answer.json()
        assert len(answer.content) < PAGE_BYTES or len(page["tasks"]) == 1
        seen += [task["id"] for task in page["tasks"]]
        cursor = page["cursor"]
    assert seen == [task["id"] for task in tasks]


async def test_a_task_is_not_searched_for_in_any_number_of_queues(api: httpx.AsyncClient, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.sadd(catalogue("test"), *(f"q{number}" for number in range(1001)))
    answer = await api.get("/v1/tasks/mine")
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, ["queue"])
    assert (await api.get("/v1/tasks/mine?queue=q1")).status_code == 404
