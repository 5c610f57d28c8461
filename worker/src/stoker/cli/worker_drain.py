"""`stoker worker drain`: drain the worker of this pod or machine, for a preStop hook by exec and by hand."""

import http.client
from typing import Annotated

import typer

from stoker.cli.options import duration, variable
from stoker.errors import StokerError
from stoker.settings import DEFAULT_WORKER_PORT, WorkerSettings

MARGIN = 10.0
"""Seconds for the answer beyond the time that the worker may take."""


def _seconds(value: str | float) -> float:
    # Defaults come through here as well, as numbers.
    return duration(value) if isinstance(value, str) else value


def worker_drain(
    port: Annotated[
        int, typer.Option(envvar=variable("PORT"), min=1, max=65535, help="Port of the worker's probes.")
    ] = DEFAULT_WORKER_PORT,
    drain_timeout: Annotated[
        float,
        typer.Option(envvar=variable("DRAIN_TIMEOUT"), parser=_seconds, metavar="DURATION", help="How long to wait for what runs."),
    ] = WorkerSettings(queue="").drain_timeout,
) -> None:
    """Have the worker on this machine take no more tasks, and wait until nothing runs. It stays until SIGTERM."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=drain_timeout + MARGIN)
    try:
        connection.request("POST", f"/drain?timeout={round(drain_timeout * 1000)}ms")
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise StokerError(f"no worker answers on port {port} of this machine: {error}; give its port with --port") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise StokerError(f"the worker is not drained: {said}")
    print("drained: the worker takes no more tasks, and none runs")
