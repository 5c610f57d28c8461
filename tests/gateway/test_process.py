"""`stoker gateway` as the process that runs in a pod: real sockets, signals and settings from the environment."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.redis_servers import Valkey, free_port

STARTS_WITHIN = 60.0
ENDS_WITHIN = 30.0


@contextmanager
def gateway(redis_url: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    settings = {"STOKER_REDIS_URL": redis_url, "STOKER_PORT": str(port), "STOKER_NAMESPACE": "test", "STOKER_LOG_FORMAT": "json"}
    process = subprocess.Popen([sys.executable, "-m", "stoker", "gateway"], env=os.environ | settings, stderr=subprocess.PIPE)
    try:
        wait_until_it_listens(process, port)
        yield process, port
    finally:
        process.kill()
        process.communicate(timeout=ENDS_WITHIN)


def wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"the gateway does not listen on {port} after {STARTS_WITHIN:g} s")


def test_it_serves_survives_redis_and_leaves_on_sigterm(own_valkey: Valkey) -> None:
    with gateway(own_valkey.url) as (process, port), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as api:
        assert api.get("/readyz").status_code == 200
        assert api.post("/v1/tasks", json={"task": "t", "queue": "q"}).status_code == 202

        own_valkey.stop()
        answer = api.get("/readyz")
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        assert api.get("/healthz").status_code == 200
        own_valkey.start()
        assert api.get("/readyz").status_code == 200

        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN) == 0
        lines = [json.loads(line) for line in process.stderr or []]
    assert [line["message"] for line in lines if line["logger"] == "stoker.gateway.serve"] == [
        "gateway listening",
        "gateway stopped",
    ]
    assert str(port) in lines[0]["url"]


def test_a_chunked_body_that_is_too_large_is_refused_before_it_ended(redis_url: str) -> None:
    with gateway(redis_url) as (_, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.putrequest("POST", "/v1/tasks")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(5):  # 320 KiB, and no end in sight
            connection.send(chunk)
        answer = connection.getresponse()
        assert answer.status == 413
        assert json.loads(answer.read())["type"] == "urn:stoker:problem:too-large"
        connection.close()


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "-m", "stoker", "gateway", "--port", port], capture_output=True, text=True, timeout=STARTS_WITHIN
        )
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith(f"error: cannot listen on 127.0.0.1:{port}")
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr
