"""Application of test_child_processes.py: tasks with `executor="process"`, and the ways in which they go wrong."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from opentelemetry import trace

from stoker import Context, Dead, Depends, SoftTimeout, Stoker

app = Stoker("forge")


@app.task(executor="process")
def where() -> tuple[int, int]:
    """The process it runs in, and that one's parent."""
    return os.getpid(), os.getppid()


@app.task(executor="process")
def hammer(seconds: float, ctx: Context) -> int:
    """Compute for a while, without ever letting another thread of this process run for long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return ctx.attempt


@app.task(executor="process", timeout=0.5)
def hammer_for_ever() -> None:
    """Compute for ever, deaf to every signal that can be caught."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pass


@app.task(executor="process", timeout=1.0)
def hire(ctx: Context) -> None:
    """Start a program that would outlive us, and wait for it."""
    program = subprocess.Popen(["sleep", "3600"])
    ctx.log.warning("hired", extra={"program": program.pid})
    program.wait()


@app.task(executor="process")
def know(ctx: Context) -> dict[str, Any]:
    """What a run knows of itself."""
    span = trace.get_current_span().get_span_context()
    return {"id": ctx.id, "task": ctx.task, "queue": ctx.queue, "attempt": ctx.attempt, "fence": ctx.fence, "trace": span.trace_id}


@app.task(executor="process")
def tell(ctx: Context) -> None:
    """Log in every way."""
    ctx.log.warning("by the context", extra={"iron": 7})
    logging.getLogger("forge").warning("by a logger of its own: %s", "hot")
    try:
        raise ValueError("too cold")
    except ValueError:
        logging.getLogger("forge").exception("with a traceback")


@app.task(executor="process")
def narrate(gate: str, ctx: Context) -> None:
    """Say how far it is, wait until there is a file, and say what else there is to say. A thread talks on when all is over."""
    for done in range(1, 1001):
        ctx.progress(done, 2000, note="blows")
    ctx.log.info("half of %d", 2000)
    ctx.log.debug("between us")
    while not os.path.exists(gate):
        time.sleep(0.01)
    ctx.log.warning("the iron is \udcff", extra={"hammers": 10**30, "bellows": (1, {2})})
    threading.Thread(target=_talk_on, args=[ctx, gate], daemon=True).start()


def _talk_on(ctx: Context, gate: str) -> None:
    while os.path.exists(gate):
        ctx.log.info("and another thing")
        ctx.progress(7)
        time.sleep(0.01)


@app.task(executor="process")
def listen(seconds: float, ctx: Context) -> None:
    """Say nothing for a while, beside whatever talks on."""
    time.sleep(seconds)
    ctx.log.info("quiet")


@app.task(executor="process", soft_timeout=0.3, timeout=60)
def temper(forgiving: bool) -> str:
    """Compute for longer than the soft timeout."""
    try:
        while True:
            pass
    except SoftTimeout as error:
        if forgiving:
            return f"cold: {error}"
        raise


@app.task(executor="process")
def leave_a_trap() -> int:
    """Set an alarm, and be ended by SIGTERM from now on; neither is for the next task."""
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return os.getpid()


@app.task(executor="process")
def step_on_it() -> int:
    """Be sent SIGTERM, and sleep until an alarm would have come."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.3)
    return os.getpid()


@app.task(executor="process")
def fail(kind: str) -> Any:
    """End in one of the ways in which a process or its function can end."""
    return _FAILURES[kind]()


def _raise(error: BaseException) -> None:
    raise error


def _exit_in_a_thread() -> None:
    threading.Thread(target=os._exit, args=[8]).start()
    time.sleep(60)


def _no_end() -> None:
    _no_end()


_FAILURES: dict[str, Callable[[], Any]] = {
    "an exception": lambda: _raise(LookupError("no such mould")),
    "Dead": lambda: _raise(Dead("cracked for good")),
    "sys.exit": lambda: sys.exit(3),
    "StopIteration": lambda: _raise(StopIteration()),
    "KeyboardInterrupt": lambda: _raise(KeyboardInterrupt()),
    "os._exit": lambda: os._exit(7),
    "os._exit in a thread": _exit_in_a_thread,
    "a segmentation fault": lambda: ctypes.string_at(0),
    "the OOM killer": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "all descriptors closed": lambda: os.closerange(3, 256),
    "a result that is no JSON": lambda: {1, object()},
    "a result that nothing can carry": lambda: lambda: None,
    "a result too large": lambda: "x" * (1 << 20),
    "no end of calls": _no_end,
}


def anvil(ctx: Context) -> Iterator[str]:
    """A dependency that is opened where the work is done."""
    ctx.log.warning("anvil up")
    yield f"anvil of {os.getpid()}"
    ctx.log.warning("anvil down")


@app.task(executor="process")
def strike(anvil: Annotated[str, Depends(anvil)]) -> bool:
    """Whether the anvil is here."""
    return anvil == f"anvil of {os.getpid()}"


@app.task(executor="process")
def split() -> int:
    """Fork, and let the copy return as if it were the original."""
    return 1 if os.fork() else 2


@app.task(executor="process")
def hoard(mebibytes: int) -> int:
    """Keep memory that is never given back."""
    _HOARD.append(bytearray(os.urandom(1 << 20) * mebibytes))
    return os.getpid()


@app.task(executor="process")
def delegate(ctx: Context) -> str:
    """Send light work. Its id."""
    return ctx.enqueue(chat.prepare())


@app.task()
async def chat() -> int:
    """Light work beside the heavy."""
    return os.getpid()


_HOARD: list[bytearray] = []
