"""The command line: each command is a function in a module of this package.

Heavy imports (fastapi, uvicorn, rich's tables) happen when a command runs, so that the others start fast.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import typer

from stoker.cli import control, dead, queues, schedules
from stoker.cli.enqueue import enqueue
from stoker.cli.gateway import gateway
from stoker.cli.options import AsJson
from stoker.cli.output import print_json
from stoker.cli.project import defaults
from stoker.cli.stats import stats
from stoker.cli.story import events, why
from stoker.cli.tasks import task, tasks
from stoker.cli.up import up
from stoker.cli.worker import worker
from stoker.cli.worker_drain import worker_drain
from stoker.errors import NotFound, StokerError
from stoker.rules.printable import printable
from stoker.version import VERSION
from stoker.worker.process.worker_command import Command

DRAIN = "worker drain"
FAILED, NOT_FOUND = 1, 3
"""Exit codes besides 0 (done) and 2 (wrong usage)."""


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="stoker",
        help="Background tasks on Redis, for Kubernetes and for a laptop.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.command()(worker)
    app.command(DRAIN)(worker_drain)
    app.command()(gateway)
    app.command()(up)
    app.command()(enqueue)
    app.command()(stats)
    app.command()(tasks)
    app.command()(task)
    app.command()(why)
    app.command()(events)
    app.add_typer(dead.build())
    app.add_typer(schedules.build())
    app.add_typer(queues.build())
    for command in (control.cancel, control.pause, control.resume, control.purge, control.doctor, control.release_claim):
        app.command()(command)
    app.command()(version)
    return app


def main(hear_worker: Callable[[Command], None] | None = None) -> None:
    """Run the command in sys.argv. A StokerError is printed as one line on stderr, without a traceback.

    `hear_worker`, if given, receives the parsed `stoker worker` command instead of it being run.
    """
    try:
        command = typer.main.get_command(build())
        command(_arguments(sys.argv[1:]), obj=hear_worker, default_map=defaults(command, Path.cwd()))
    except StokerError as error:
        print(printable(f"error: {error}", "\n"), file=sys.stderr)
        sys.exit(NOT_FOUND if isinstance(error, NotFound) else FAILED)
    except UnicodeEncodeError:
        if not (undecoded := [argument for argument in sys.argv[1:] if not _is_text(argument)]):
            raise
        encoding = sys.getfilesystemencoding()
        print(f"error: {undecoded[0]!a} is not text in {encoding}: set PYTHONUTF8=1, or a locale with UTF-8", file=sys.stderr)
        sys.exit(FAILED)


def _is_text(argument: str) -> bool:
    """Whether Python could decode it by the locale."""
    return not any("\udc80" <= character <= "\udcff" for character in argument)


def _arguments(given: list[str]) -> list[str]:
    """`worker drain` as one word: `worker` takes an application there, and is no group of commands."""
    return [DRAIN, *given[2:]] if given[:2] == DRAIN.split() else given


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    print_json({"version": VERSION}) if as_json else print(VERSION)
