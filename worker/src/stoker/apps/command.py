"""A ready-made application that runs programs of its container: `stoker worker stoker.apps.command:app`.

One task, `command.run`. STOKER_COMMAND_ALLOW is the allow-list of programs; without it the worker refuses to start. There is no
shell: arguments reach the program unchanged. Documented in docs/how-to/without-python.md.
"""

import asyncio
import ctypes
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, TypedDict

from msgspec import Struct

from stoker.app.app import Stoker
from stoker.errors import Dead, Invalid
from stoker.settings import PREFIX
from stoker.task.context import Context
from stoker.task.dependencies import State
from stoker.worker.system.secrecy import hide

ALLOW, ALLOW_ENV = "STOKER_COMMAND_ALLOW", "STOKER_COMMAND_ALLOW_ENV"
KEPT = 16 * 1024
"""Bytes kept from the end of each stream."""
LOGGED_LINES, LOGGED_LINE = 1000, 2000
"""Maximum lines of output that are logged, and maximum bytes of each."""
LEAVES_WITHIN, STREAMS_END_WITHIN, ENDS_WITHIN = 5.0, 1.0, 2.0
SHOWN = 500
RUNNER = str(Path(__file__).with_name("command_runner.py"))
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # opened early: between fork and exec little is safe


class Finished(TypedDict):
    """The result: exit code, the last 16 KiB of `stdout` and `stderr` as text, seconds."""

    code: int
    stdout: str
    stderr: str
    seconds: float


class ExitError(Exception):
    """The program ended with an exit code that is not a success."""


class Programs(Struct, frozen=True):
    """The allow-list: program names (looked up on PATH) or absolute paths, and variables that a payload may set."""

    names: frozenset[str]
    variables: frozenset[str]
    environment: Mapping[str, str]

    def path_of(self, name: str) -> str:
        """The program's path. Raises Dead if it is not allowed or not found."""
        if name not in self.names:
            raise Dead(f"{name[:SHOWN]!r} is not allowed: STOKER_COMMAND_ALLOW lists the programs that this worker may run")
        found = shutil.which(name, path=self.environment.get("PATH"))
        if found is None:
            raise Dead(f"program {name} not found in this container")
        return found

    def with_variables(self, extra: Mapping[str, str]) -> dict[str, str]:
        """The program's environment. Raises Dead for a variable that a payload may not set."""
        if strange := sorted(extra.keys() - self.variables):
            raise Dead(
                f"the variables {', '.join(strange)[:SHOWN]} are not allowed: STOKER_COMMAND_ALLOW_ENV lists the allowed ones"
            )
        if bad := sorted(name for name, value in extra.items() if "\0" in value):
            raise Dead(f"the variables {', '.join(bad)[:SHOWN]} have a zero byte")
        return {**self.environment, **extra}


@asynccontextmanager
async def lifespan(_app: Stoker) -> AsyncIterator[Programs]:
    """The programs of one worker process, which hides its memory from them. Raises Invalid without an allow-list."""
    names = _words(ALLOW)
    if not names:
        raise Invalid(f"{ALLOW} is not set: list the programs that tasks may run, such as pg_dump,/usr/bin/ffmpeg")
    if "@" in _app.redis_url and any(_app.redis_url in word for word in sys.orig_argv):
        raise Invalid("--redis-url has credentials, and programs may read command lines: set STOKER_REDIS_URL instead")
    hide()
    # Stoker's settings and those of its traces include secrets: the Redis URL, OTEL_EXPORTER_OTLP_HEADERS.
    environment = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "OTEL_"))}
    yield Programs(names, _words(ALLOW_ENV), environment)


app = Stoker("command", lifespan=lifespan)


@app.task(name="command.run")
async def run(
    argv: list[str],
    ctx: Context,
    programs: State[Programs],
    stdin: str = "",
    env: dict[str, str] | None = None,
    timeout: float = 600.0,
    success: list[int] | None = None,
    dead: list[int] | None = None,
) -> Finished:
    """Run a program; keep the end of its output. After `timeout` seconds it and its children are killed.

    Exit code 0 (or one of `success`) succeeds. With one of `dead`, or if the program cannot be run, the task is dead at once. Any
    other code, a signal or the timeout is a failure, and retried.
    """
    if not argv or any("\0" in word for word in argv):
        raise Dead("argv must be a non-empty list of strings, program first")
    runner = Runner([programs.path_of(argv[0]), *argv[1:]], programs.with_variables(env or {}))
    started = time.monotonic()
    streams = Streams(ctx)
    async with streams.open(stdin) as (source, out, err):
        try:
            process = await runner.start(source, out, err)
        finally:
            streams.hand_over()
        try:
            async with asyncio.timeout(timeout):
                code = await process.wait()
        except TimeoutError as error:
            await _terminate(process)
            raise ExitError(f"{argv[0]} did not end within {timeout:g} s{streams.last_words}") from error
        finally:
            await _end(process)
            failure = runner.failure()
        if failure:  # not executable, too many arguments
            raise Dead(f"{argv[0]} cannot be run: {failure}")
    finished = Finished(code=code, stdout=streams.out.text, stderr=streams.err.text, seconds=round(time.monotonic() - started, 3))
    ctx.log.info("ended", extra={"program": argv[0], "code": code, "seconds": finished["seconds"]})
    if code in (success or [0]):
        return finished
    words = f"{argv[0]} ended with {_named(code)}{streams.last_words}"
    raise Dead(words) if code in (dead or []) else ExitError(words)


class Tail:
    """The last bytes of a stream."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: bytes) -> None:
        self._bytes += data
        del self._bytes[:-KEPT]

    @property
    def text(self) -> str:
        return self._bytes.decode(errors="replace")


class Streams:
    """Standard input and output of a program. Lines are logged as they come, with bounded memory.

    The pipes are our own: with asyncio's, waiting for the program would last until all its children have closed theirs.
    """

    def __init__(self, ctx: Context) -> None:
        self.out, self.err = Tail(), Tail()
        self._ctx = ctx
        self._left = LOGGED_LINES
        self._handed: list[int] = []

    @asynccontextmanager
    async def open(self, stdin: str) -> AsyncIterator[tuple[BinaryIO, int, int]]:
        """The program's three streams. At exit the rest is read, for at most STREAMS_END_WITHIN seconds."""
        async with AsyncExitStack() as stack:
            source = stack.enter_context(_in_memory())  # not a pipe, which would block unless read
            source.write(stdin.encode())
            source.seek(0)
            readers = [await self._listen(stack, tail, name) for tail, name in ((self.out, "stdout"), (self.err, "stderr"))]
            stack.callback(self.hand_over)
            yield source, self._handed[0], self._handed[1]
            _, open_ = await asyncio.wait(readers, timeout=STREAMS_END_WITHIN)
            for reader in open_:
                reader.cancel()

    def hand_over(self) -> None:
        """Close our copies of the program's ends, or the streams never end."""
        while self._handed:
            os.close(self._handed.pop())

    async def _listen(self, stack: AsyncExitStack, tail: Tail, name: str) -> asyncio.Task[None]:
        ours, its = os.pipe()
        self._handed.append(its)
        stream = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(ours, "rb", 0))
        stack.callback(transport.close)
        return asyncio.create_task(self._read(stream, tail, name))

    @property
    def last_words(self) -> str:
        """The end of its output, for an error."""
        words = (self.err.text.strip() or self.out.text.strip())[-SHOWN:]
        return f": {words}" if words else ""

    async def _read(self, stream: asyncio.StreamReader, tail: Tail, name: str) -> None:
        line = bytearray()
        while data := await stream.read(16 * 1024):
            tail.add(data)
            if self._left <= 0:
                continue
            *whole, rest = data.split(b"\n")
            for part in whole:
                self._log(name, bytes(line[:LOGGED_LINE]) + part[: LOGGED_LINE - len(line)])
                line.clear()
            line += rest[: LOGGED_LINE - len(line)]
        if line:
            self._log(name, bytes(line))

    def _log(self, name: str, line: bytes) -> None:
        self._left -= 1
        if self._left >= 0:
            self._ctx.log.info(line.decode(errors="replace"), extra={"stream": name})
        if self._left == 0:
            self._ctx.log.warning("the rest of the output is not logged", extra={"lines": LOGGED_LINES})


def _in_memory() -> BinaryIO:
    """A file in memory, since the root file system may be read-only."""
    return os.fdopen(os.memfd_create("stdin"), "w+b") if hasattr(os, "memfd_create") else TemporaryFile()


class Runner:
    """Starts `command_runner.py`, the parent of one program: see there."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        variables = [f"{name}={value}" for name, value in environment.items()]
        self._wanted = [command[0], str(len(command)), *command, *variables]
        self._report: list[int] = []

    async def start(self, source: BinaryIO, out: int, err: int) -> asyncio.subprocess.Process:
        """The process, whose exit code is the program's."""
        report, its = os.pipe()
        os.set_blocking(report, False)
        self._report = [report]
        try:
            with _in_memory() as wanted:
                wanted.write(b"\0".join(os.fsencode(word) for word in self._wanted))
                wanted.seek(0)
                return await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", RUNNER, str(wanted.fileno()), str(its), str(os.getpid())),
                    env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ},
                    stdin=source,
                    stdout=out,
                    stderr=err,
                    pass_fds=(wanted.fileno(), its),
                    start_new_session=True,
                    preexec_fn=_adopt_orphans,
                )
        except BaseException:
            os.close(self._report.pop())
            raise
        finally:
            os.close(its)

    def failure(self) -> str:
        """Why the program could not be run; empty if it could. Once, at its end."""
        with suppress(BlockingIOError), os.fdopen(self._report.pop(), "rb", 0) as report:
            return (report.read(SHOWN) or b"").decode(errors="replace")
        return ""


def _adopt_orphans() -> None:
    if _libc:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # both last through exec
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGUSR1), 0, 0, 0)


async def _terminate(process: asyncio.subprocess.Process) -> None:
    """SIGTERM the program's process group, and wait up to LEAVES_WITHIN seconds."""
    _signal(process, signal.SIGTERM)
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVES_WITHIN):
            await process.wait()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the program and all its descendants, unless they have ended."""
    _signal(process, signal.SIGUSR1)
    with suppress(TimeoutError):
        async with asyncio.timeout(ENDS_WITHIN):
            await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            process.send_signal(number)


def _named(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _words(variable: str) -> frozenset[str]:
    return frozenset(os.environ.get(variable, "").replace(",", " ").split())
