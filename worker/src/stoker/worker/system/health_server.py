"""Health server: /startz, /livez, /readyz, /metrics and /drain over HTTP.

In threads, so that it answers while the application is imported and while the event loop is blocked.
"""

import logging
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST

from stoker.errors import Invalid
from stoker.listening import listen
from stoker.rules.units import parse_duration

_log = logging.getLogger("stoker.worker")
_HERE = ("127.0.0.1", "::1")
"""Not all of 127.0.0.0/8: the sidecar of a service mesh passes on what comes from outside, from 127.0.0.6."""
LOADING = "loading the application"
"""Why a worker takes no tasks until its application is imported."""
LONGEST_WAIT, WAIT_STEP = 2.0, 0.005
"""Seconds that an answer may wait for the start, and between two looks."""
WORKER_HEADER = "Stoker-Worker"
"""Names the process that a page comes from: its counters started at 0 with it."""


class Served(Protocol):
    """What has a status page. `drain_timeout` is in seconds. All methods are called from threads."""

    name: str
    drain_timeout: float

    def started(self) -> str | None:
        """None once the application is loaded, else what is waited for."""
        ...

    def live(self) -> str | None:
        """None while healthy, else why it must be restarted."""
        ...

    def ready(self) -> str | None:
        """None while tasks are taken, else why not."""
        ...

    def metrics(self) -> bytes:
        """The Prometheus text format."""
        ...

    def quiet(self, timeout: float) -> str | None:
        """Take no more tasks, and wait until nothing runs. None then, else what still runs after `timeout` seconds."""
        ...


class HealthServer:
    """Serves the probes, the metrics and the drain. A context manager; `port` is the actual one, also for port 0.

    With `inherited`, the descriptor of a listening socket, it serves that one, which stays open for the next process.
    """

    def __init__(self, host: str, port: int, served: Served, *, inherited: int | None = None) -> None:
        self._handler: type[_Handler] = type("Handler", (_Handler,), {"served": served})
        try:
            listening = listen(host, port) if inherited is None else socket.socket(fileno=socket.dup(inherited))
        except OSError as error:
            raise Invalid(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port (0 = any free one)") from error
        self._server = _Server(("", 0), self._handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listening
        self._server.server_address = listening.getsockname()
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def show(self, served: Served) -> None:
        """Serve this one from now on."""
        self._handler.served = served

    def close(self) -> None:
        """End it. May be called twice, but not before it was entered."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> "HealthServer":
        threading.Thread(target=self._server.serve_forever, name="stoker-health", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Log what fails, but not clients that have hung up."""
        if not isinstance(sys.exception(), OSError):
            _log.exception("the worker's page failed", extra={"client": client_address})


class _Handler(BaseHTTPRequestHandler):
    timeout = 10
    served: Served

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/startz":
                self._check(self._started(wait=self.path.endswith("?wait")))
            case "/livez":
                self._check(self.served.live())
            case "/readyz":
                self._check(self.served.ready())
            case "/metrics":
                self._answer(200, self.served.metrics(), CONTENT_TYPE_LATEST)
            case "/drain":
                self._answer(405, b"POST to it, or run: stoker worker drain\n")
            case _:
                self._answer(404, b"try /startz, /livez, /readyz, /metrics or /drain\n")

    def _started(self, *, wait: bool) -> str | None:
        """For a group, which is to know of a start before the first task can end the process: the answer waits for it."""
        until = time.monotonic() + LONGEST_WAIT
        while (wrong := self.served.started()) and wait and time.monotonic() < until:
            time.sleep(WAIT_STEP)
        return wrong

    def do_POST(self) -> None:
        path, _, query = self.path.partition("?")
        if path != "/drain":
            self._answer(405, b"only /drain may be posted to\n")
        elif self._from_a_page() or self.client_address[0].removeprefix("::ffff:") not in _HERE:
            self._answer(403, b"only from within the pod or this machine: stoker worker drain\n")
        else:
            self._drain(query)

    def _from_a_page(self) -> bool:
        """Whether a browser sends this for a web page. Draining has no page of its own."""
        return "Origin" in self.headers or self.headers.get("Sec-Fetch-Site", "none") != "none"

    def _drain(self, query: str) -> None:
        try:
            asked = parse_duration(query.removeprefix("timeout=")) if query else self.served.drain_timeout
            timeout = min(asked, self.served.drain_timeout)
        except ValueError as error:
            self._answer(400, f"{error}\n".encode())
        else:
            self._check(self.served.quiet(timeout))

    def _check(self, wrong: str | None) -> None:
        self._answer(503 if wrong else 200, f"{wrong or 'ok'}\n".encode())

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header(WORKER_HEADER, self.served.name)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Probes come every few seconds: not logged."""
