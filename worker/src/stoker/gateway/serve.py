"""Run the gateway: listen, log the address, shut down gracefully."""

import gc
import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from stoker import listening
from stoker.errors import StokerError
from stoker.gateway.connections import WAITS, BoundedConnection, Wait

LEAVES_WITHIN = 10
BACKLOG = 2048
_log = logging.getLogger(__name__)


def serve(app: FastAPI, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; open requests get LEAVES_WITHIN seconds. Raises StokerError if it cannot listen."""
    listener = listen(host, port)
    address = listener.getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    # uvicorn re-raises the signal after shutdown; the default handler would make the exit look like a kill.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    gc.freeze()  # what is there now stays: a full collection that looked at it would stop all requests for some 50 ms
    _log.info("gateway listening", extra={"url": f"http://{shown}:{address[1]}", "docs": "/docs"})
    with listener:
        try:
            uvicorn.Server(settings(app)).run(sockets=[listener])
        finally:
            _log.info("gateway stopped")


def settings(app: FastAPI) -> uvicorn.Config:
    """How uvicorn serves it."""
    return uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=LEAVES_WITHIN,
        timeout_keep_alive=round(2 * WAITS[Wait.REQUEST]),  # BoundedConnection is stricter
        server_header=False,
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one, `::` takes IPv6 and IPv4. Raises StokerError."""
    try:
        return listening.listen(host, port, BACKLOG)
    except (OSError, OverflowError) as error:
        raise StokerError(f"cannot listen on {host}:{port}: {error}; choose another with --host and --port") from error


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
