"""`stoker`, and `python -m stoker`.

Whoever reads a command line with typer has typer's pydantic in memory, 11 MB. A worker would carry them through its life, and
all its processes beside it: a child reads its command line, tells what it says, and is gone.
"""

import os
import sys
import traceback
from collections.abc import Callable

from stoker.worker.process.worker_command import Command, dumps, loads, serve

FAILED_BY_SIGNAL = 128


def main() -> None:
    """Run the command in sys.argv."""
    if sys.argv[1:2] == ["worker"] and hasattr(os, "fork"):
        from stoker.errors import StokerError

        command = read_apart()
        try:
            serve(command)
        except StokerError as error:
            sys.exit(f"error: {error}")
    else:
        from stoker.cli import main as run_here

        run_here()


def read_apart() -> Command:
    """What the command line of a worker says. Ends this process as the child ends, where that has said what is wrong with it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _read(lambda command: _send(writing, command))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code or not text:
        sys.exit(code if code >= 0 else FAILED_BY_SIGNAL - code)
    return loads(text)


def _read(hear: Callable[[Command], None]) -> None:
    """In the child, from which nothing returns: what its parent has open is not its own to tidy up."""
    code = 1
    try:
        from stoker.cli import main as read

        read(hear)
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
