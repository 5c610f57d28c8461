"""`stoker gateway` as a process."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.redis_servers import free_port

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
