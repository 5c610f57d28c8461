"""The worker's HTTP page: /livez, /readyz, /metrics. In a thread, so that it answers while the loop is busy."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from stoker.errors import Invalid

Check = Callable[[], str | None]
"""None where all is well, else what is wrong."""


class HealthServer:
    """Serves the probes and the metrics. A context manager; `port` is the real one, also for port 0."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, *, live: Check, ready: Check) -> None:
        checks = {"/livez": live, "/readyz": ready}

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                elif path in checks:
                    wrong = checks[path]()
                    self._answer(503 if wrong else 200, f"{wrong or 'ok'}\n".encode())
                else:
                    self._answer(404, b"here are /livez, /readyz and /metrics\n")

            def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Probes come every few seconds; they are not news."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise Invalid(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port (0 = any free one)") from error
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> "HealthServer":
        threading.Thread(target=self._server.serve_forever, name="stoker-health", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
