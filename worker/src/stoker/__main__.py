"""Entry point: `stoker`, and `python -m stoker`.

Parsing a command line with typer loads 11 MB. A worker process must not keep them, so a forked child parses the worker's command
line, sends the result through a pipe, and exits.
"""

import io
import os
import sys
import traceback
from collections.abc import Callable

from stoker.worker.process.worker_command import Command, dumps, loads, serve
from stoker.worker.system.secrecy import hide, take_url

FAILED_BY_SIGNAL = 128


def main() -> None:
    """Run the command in sys.argv."""
    in_group = take_url()
    if sys.argv[1:3] == ["worker", "drain"]:
        hide()  # a preStop hook: it has the container's environment while programs of command.run finish
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: no text is a reason to fail on a terminal without UTF-8
    if sys.argv[1:2] == ["worker"] and sys.argv[2:3] != ["drain"] and hasattr(os, "fork"):
        from stoker.errors import StokerError

        command = parse_in_child()
        try:
            serve(command, replaced=in_group)
        except StokerError as error:
            sys.exit(f"error: {error}")
    else:
        from stoker.cli import main as run_cli

        run_cli()


def parse_in_child() -> Command:
    """Parse the command line of a worker in a child. Exits with the child's exit code if it has reported an error."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _parse(lambda command: _send(writing, command))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code or not text:
        sys.exit(code if code >= 0 else FAILED_BY_SIGNAL - code)
    return loads(text)


def _parse(accept: Callable[[Command], None]) -> None:
    """Parse in the child, and exit by os._exit: what the parent has open must not be flushed or closed twice."""
    code = 1
    try:
        from stoker.cli import main as parse

        parse(accept)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _send(pipe: int, command: Command) -> None:
    with os.fdopen(pipe, "wb") as sink:
        sink.write(dumps(command))


if __name__ == "__main__":
    main()
