"""`stoker gateway` as the process that runs in a pod: real sockets, signals and settings from the environment."""

import http.client
import json
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from tests.gateway.gateway_process import ENDS_WITHIN, STARTS_WITHIN, gateway
from tests.redis_servers import Valkey


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


def test_it_listens_on_both_families_of_addresses(own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_HOST", "::")
    with gateway(own_valkey.url) as (_, port):
        for host in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{host}:{port}/readyz", timeout=10).status_code == 200


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
