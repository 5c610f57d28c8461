"""The command line as its entry point runs it, in this process: a new interpreter for each command would take a second."""

import io
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from stoker.cli import main
from tests.logging_state import logging_restored


class Ended(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """What it says on stderr, as one line: an error of usage may be folded."""
        return " ".join(self.err.split())


@pytest.fixture
def stoker(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run `stoker ...` against an empty database, in the namespace "test"."""
    for name in [name for name in os.environ if name.startswith("STOKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STOKER_REDIS_URL", redis_url)
    monkeypatch.setenv("STOKER_NAMESPACE", "test")

    def run(*arguments: str, stdin: str = "", **variables: str) -> Ended:
        out, err, code = io.StringIO(), io.StringIO(), 0
        with monkeypatch.context() as patch, logging_restored(), redirect_stdout(out), redirect_stderr(err):
            patch.setattr("sys.argv", ["stoker", *arguments])
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            for name, value in variables.items():
                patch.setenv(name, value)
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        return Ended(code, out.getvalue(), err.getvalue())

    return run
