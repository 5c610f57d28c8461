"""The ready-made HTTP application: a TaskQueue that calls endpoints, and that nobody can send where it must not go."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stoker import Retry, TaskFailed
from stoker.apps.http import ALLOW, ALLOW_NETWORKS, MAX_RESPONSE, app, request
from stoker.rules.states import TaskState
from tests.stories.working import working
from tests.waiting import until

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Endpoint:
    """A real server on loopback. Each path has a handler; what came is kept."""

    def __init__(self) -> None:
        self.heard: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.handlers: dict[str, Handler] = {}
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def answer(self, asked: web.Request) -> web.StreamResponse:
        self.heard.append(asked)
        self.bodies.append(await asked.read())
        handler = self.handlers.get(asked.path)
        return await handler(asked) if handler else web.json_response({"hello": asked.path})


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    server = web.AppRunner(web.Application(), shutdown_timeout=0)
    server.app.router.add_route("*", "/{path:.*}", endpoint.answer)
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    endpoint.port = server.addresses[0][1]
    yield endpoint
    await server.cleanup()


@pytest.fixture
async def allowed(endpoint: Endpoint, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[pytest.MonkeyPatch]:
    """The application may call the endpoint by its address, and nothing else."""
    monkeypatch.setattr(app, "redis_url", redis_url)
    monkeypatch.setenv(ALLOW, f"http://127.0.0.1:{endpoint.port}")
    monkeypatch.setenv(ALLOW_NETWORKS, "127.0.0.0/8")
    yield monkeypatch
    await app.close()


async def death_of(*arguments: Any, **options: Any) -> str:
    """Why this request is buried, at once."""
    handle = await request.options(retry=Retry(max_retries=0)).enqueue(*arguments, **options)
    with pytest.raises(TaskFailed) as failed:
        await handle.result(timeout=10)
    return str(failed.value)


@pytest.mark.usefixtures("allowed")
async def test_an_endpoint_is_called_and_its_answer_kept(endpoint: Endpoint) -> None:
    async with working(app):
        handle = await request.options(id="order-42").enqueue(
            endpoint.url("/orders"), headers={"X-Shop": "tea"}, json={"order": 42, "lines": [None, "ä"]}
        )
        answer = await handle.result(timeout=10)
    [asked] = endpoint.heard
    assert (asked.method, asked.headers["Idempotency-Key"], asked.headers["X-Shop"]) == ("POST", "order-42", "tea")
    assert endpoint.bodies == [b'{"order": 42, "lines": [null, "\\u00e4"]}']
    assert (answer["status"], answer["body"], answer["truncated"]) == (200, '{"hello": "/orders"}', False)
    assert answer["headers"]["content-type"] == "application/json; charset=utf-8"


@pytest.mark.usefixtures("allowed")
async def test_trouble_of_the_server_is_tried_again_under_the_same_key(endpoint: Endpoint) -> None:
    statuses = iter((503, 429, 204))

    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=next(statuses))

    endpoint.handlers["/busy"] = busy
    async with working(app):
        handle = await request.enqueue(endpoint.url("/busy"), method="PUT", body="hello")
        assert (await handle.result(timeout=10))["status"] == 204
    assert {asked.headers["Idempotency-Key"] for asked in endpoint.heard} == {handle.id}
    assert endpoint.bodies == [b"hello"] * 3


@pytest.mark.usefixtures("allowed")
async def test_a_server_that_says_when_is_not_asked_before(endpoint: Endpoint) -> None:
    at: list[float] = []

    async def later(_: web.Request) -> web.Response:
        at.append(time.monotonic())
        return web.Response(status=503, headers={"retry-after": "1"}) if len(at) == 1 else web.Response()

    endpoint.handlers["/later"] = later
    async with working(app):
        handle = await request.enqueue(endpoint.url("/later"))
        assert (await handle.result(timeout=10))["status"] == 200
    assert at[1] - at[0] >= 0.95, "the queue's own backoff is 10 ms"


@pytest.mark.usefixtures("allowed")
async def test_what_the_server_will_never_take_is_buried_with_its_words(endpoint: Endpoint) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=422, text="no such order")

    endpoint.handlers["/refuse"] = refuse
    async with working(app):
        handle = await request.enqueue(endpoint.url("/refuse"), method="PATCH")
        with pytest.raises(TaskFailed, match="PATCH answered 422: no such order"):
            await handle.result(timeout=10)
        expected = await request.enqueue(endpoint.url("/refuse"), method="GET", expect=[200, 422])
        assert (await expected.result(timeout=10))["status"] == 422
    assert len(endpoint.heard) == 2


@pytest.mark.usefixtures("allowed")
async def test_no_answer_is_a_failure_and_no_more(endpoint: Endpoint) -> None:
    async def dawdle(asked: web.Request) -> web.Response:
        await until(lambda: asked.transport is None or asked.transport.is_closing())
        return web.Response()

    endpoint.handlers["/dawdle"] = dawdle
    async with working(app):
        assert "no response within 0.2 s" in await death_of(endpoint.url("/dawdle"), timeout=0.2)


async def test_redirects_stay_within_the_host(endpoint: Endpoint, allowed: pytest.MonkeyPatch) -> None:
    async def elsewhere(asked: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": asked.query["to"]})

    async def round_and_round(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/round"})

    endpoint.handlers |= {"/moved": elsewhere, "/round": round_and_round}
    allowed.setenv(ALLOW, f"http://127.0.0.1:{endpoint.port},http://localhost:{endpoint.port}")
    async with working(app):
        handle = await request.enqueue(endpoint.url("/moved?to=/new"), body="kept")
        assert (await handle.result(timeout=10))["body"] == '{"hello": "/new"}'
        assert endpoint.bodies == [b"kept", b"kept"]
        other = endpoint.url("/moved?to=" + endpoint.url("/secret", host="localhost"))
        assert "redirected to another host" in await death_of(other)
        assert "redirected more than 5 times" in await death_of(endpoint.url("/round"), method="GET")
    assert not any(asked.path == "/secret" for asked in endpoint.heard)


async def test_an_answer_takes_no_more_memory_than_is_kept(endpoint: Endpoint, allowed: pytest.MonkeyPatch) -> None:
    sent = 0

    async def endless(asked: web.Request) -> web.StreamResponse:
        nonlocal sent
        stream = web.StreamResponse(headers={"Content-Type": "text/plain; charset=nonsense"})
        await stream.prepare(asked)
        while True:
            await stream.write(b"x" * 65536)
            sent += 65536

    endpoint.handlers["/endless"] = endless
    allowed.setenv(MAX_RESPONSE, "1000")
    async with working(app):
        answer = await (await request.enqueue(endpoint.url("/endless"), method="GET")).result(timeout=10)
    assert answer["body"] == "x" * 1000
    assert answer["truncated"]
    assert sent < 64 * 1024 * 1024, "it is not read to its end"


async def test_no_request_goes_to_a_host_that_is_not_allowed(endpoint: Endpoint, allowed: pytest.MonkeyPatch) -> None:
    """Every host name is on the list, and the endpoint is inside: by whatever name, it is not reached."""
    allowed.setenv(ALLOW, f"http://*:{endpoint.port} http://* *")
    allowed.setenv(ALLOW_NETWORKS, "")
    async with working(app):
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "LOCALHOST"):
            assert "not a public address" in await death_of(endpoint.url("/secret", host=host)), host
        for host in ("127.1", "2130706433", "0x7f000001", "0", "0177.0.0.1", "１２７.1", "127.0.0.1."):
            assert "in disguise" in await death_of(endpoint.url("/secret", host=host)), host
        assert "not a public address" in await death_of("http://169.254.169.254/latest/meta-data/")
        assert "not sent" in await death_of(f"http://api.example.org@127.0.0.1:{endpoint.port}/secret")
        for url in ("file:///etc/passwd", "gopher://127.0.0.1/", "//127.0.0.1/", "", "http://", "http://[::1"):
            assert "Dead" in await death_of(url), url
    assert not endpoint.heard


@pytest.mark.usefixtures("allowed")
async def test_a_payload_cannot_smuggle_a_second_request(endpoint: Endpoint) -> None:
    async with working(app):
        lines = ({"X": "a\r\nHost: b"}, {"X\r\nY": "a"})
        for headers in (*lines, {"Content-Length": "0"}, {"transfer-encoding": "chunked"}, {"Host": "b"}):
            assert "Dead" in await death_of(endpoint.url("/"), headers=headers), headers
        assert "Dead" in await death_of(endpoint.url("/"), method="GET / HTTP/1.1\r\nHost: b\r\n\r\nGET")
        assert "Dead" in await death_of(endpoint.url("/"), json=1, body="1")
        handle = await request.enqueue(endpoint.url("/a b\r\nX: y"), method="GET")
        assert (await handle.result(timeout=10))["status"] == 200
    [asked] = endpoint.heard
    assert "X" not in asked.headers


@pytest.mark.usefixtures("allowed")
async def test_header_names_and_values_are_those_of_http(endpoint: Endpoint) -> None:
    bad = (
        {"Transfer-Encoding ": "chunked"},
        {"Content-Length\t": "3"},
        {" Host": "b"},
        {"": "a"},
        {"X:": "a"},
        {"é": "a"},
        {"X": "a\0b"},
    )
    async with working(app):
        for headers in (*bad, {"X": "a\x1b[2J"}, {"X": "a\x7f"}, {"X": "a\nY: b"}):
            assert "HTTP does not allow" in await death_of(endpoint.url("/"), headers=headers), headers
    assert not endpoint.heard


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    "charset", ["punycode", "zlib", "idna", "hex", "bz2", "unicode_escape", "utf_16_le\x80", "x" * 5000, "rot13", "undefined"]
)
async def test_a_response_names_only_encodings_of_text(endpoint: Endpoint, charset: str) -> None:
    """Python decodes punycode in quadratic time, and raises for zlib after the call was made."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"a-" * 20_000, headers={"Content-Type": f'text/plain; charset="{charset}"'})

    endpoint.handlers["/odd"] = answer
    async with working(app):
        began = time.monotonic()
        answered = await (await request.enqueue(endpoint.url("/odd"))).result(timeout=10)
        assert time.monotonic() - began < 5
    assert (answered["body"], len(endpoint.heard)) == ("a-" * 20_000, 1)


async def raw(answer: bytes, *, hold: bool = False) -> tuple[asyncio.Server, list[bytes], str]:
    """A server that answers with these bytes and closes the connection, or holds it; what it heard; its URL."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        if hold:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, heard, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "hold"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", False, id="a body that breaks off"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", True, id="a body that does not end in time"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Odd: \xff\xfe\r\nContent-Length: 4\r\n\r\nhalf", False, id="a header that is no text"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"\x01" * 60000, False, id="a body that grows in JSON"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X-Long: %s\r\n" % (b"y" * 7000) * 60 + b"\r\nhalf", False, id="many long headers"),
    ],
)
async def test_what_fails_after_the_status_has_come_does_not_send_the_call_again(
    allowed: pytest.MonkeyPatch, answer: bytes, *, hold: bool
) -> None:
    server, heard, host = await raw(answer, hold=hold)
    allowed.setenv(ALLOW, f"http://{host}")
    async with server, working(app):
        answered = await (await request.enqueue(f"http://{host}/", timeout=1.0)).result(timeout=20)
    assert answered["status"] == 200
    assert len(heard) == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", id="a huge header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n", id="chunks that are none"),
        pytest.param(b"no http at all\r\n\r\n", id="no http"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", id="a length that is none"),
        pytest.param(b"HTTP/1.1 307 OK\r\nContent-Length: 0\r\nLocation: http://[::1\r\n\r\n", id="a location that is none"),
    ],
)
async def test_an_answer_that_cannot_be_read_is_final(allowed: pytest.MonkeyPatch, answer: bytes) -> None:
    server, heard, host = await raw(answer)
    allowed.setenv(ALLOW, f"http://{host}")
    async with server, working(app):
        with pytest.raises(TaskFailed):
            await (await request.enqueue(f"http://{host}/", timeout=5.0)).result(timeout=20)
    assert len(heard) == 1


def test_without_a_list_it_does_not_start(redis_url: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    command = [sys.executable, "-m", "stoker", "worker", "stoker.apps.http:app", "--port", "0", "--redis-url", redis_url]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "STOKER_HTTP_ALLOW is not set: list the hosts" in ended.stderr


@pytest.mark.usefixtures("allowed")
async def test_a_cancelled_request_is_given_up(endpoint: Endpoint) -> None:
    gone = asyncio.Event()

    async def dawdle(asked: web.Request) -> web.Response:
        assert asked.transport
        await until(lambda: asked.transport is None or asked.transport.is_closing())
        gone.set()
        return web.Response()

    endpoint.handlers["/dawdle"] = dawdle
    async with working(app):
        handle = await request.enqueue(endpoint.url("/dawdle"))
        await until(lambda: endpoint.heard)
        await handle.cancel()
        await asyncio.wait_for(gone.wait(), 10)
        await until(lambda: is_cancelled(handle.id))


async def is_cancelled(task_id: str) -> bool:
    return (await app.client.status("default", task_id)).state is TaskState.CANCELLED
