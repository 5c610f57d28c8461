"""Application of test_hostile_tasks.py: tasks that damage their own process, as no task should."""

import asyncio
import ctypes
import locale
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from stoker import Context, Stoker
from stoker.worker.loop import watchdog

app = Stoker("vandal")
watchdog.STUCK_AFTER = float(os.environ.get("STUCK_AFTER", watchdog.STUCK_AFTER))  # a minute is long for a story


@app.task()
async def where() -> int:
    """The process it runs in."""
    return os.getpid()


@app.task()
def where_in_a_thread() -> int:
    """The same, in a thread."""
    return os.getpid()


@app.task(executor="process")
def where_in_a_child() -> int:
    """The same, in a child: its parent."""
    return os.getppid()


@app.task()
async def do(what: str, ctx: Context) -> Any:
    """Do it on the event loop, the first time that it runs."""
    return _DEEDS[what]() if ctx.attempt == 1 else ctx.attempt


@app.task()
def do_in_a_thread(what: str, ctx: Context) -> Any:
    """Do it in a thread, the first time that it runs."""
    return _DEEDS[what]() if ctx.attempt == 1 else ctx.attempt


@app.task()
async def do_and_wait(what: str, ctx: Context) -> Any:
    """Do it and wait for it, the first time that it runs."""
    return await _LONG_DEEDS[what]() if ctx.attempt == 1 else ctx.attempt


@app.task()
async def cling() -> None:
    """Ignore every cancellation, and leave such a task behind."""
    _BESIDE.append(asyncio.create_task(_cling()))
    await _cling()


async def _cling() -> None:
    while True:
        with suppress(BaseException):
            await asyncio.sleep(3600)


@app.task()
async def wait(ctx: Context) -> int:
    """A neighbour that has not ended yet."""
    if ctx.attempt == 1:
        await asyncio.sleep(2)
    return ctx.attempt


@app.task()
async def do_always(what: str) -> Any:
    """Do it every time."""
    return _DEEDS[what]()


@app.task(executor="process")
def do_in_a_child(what: str) -> Any:
    """Do it in a child."""
    return _DEEDS[what]()


def _close_everything() -> None:
    os.closerange(3, 256)


def _close_the_output() -> None:
    """Stand for whoever reads it and has gone."""
    unread, pipe = os.pipe()
    os.close(unread)
    for stream in (1, 2):
        os.dup2(pipe, stream)
    os.close(pipe)
    print("to nobody", flush=True)


def _eat_memory() -> int:
    """As much as there is, under a limit that leaves a worker 300 MiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (300 << 20), hard))
    eaten = []
    try:
        while True:
            eaten.append(bytearray(10 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _recurse_without_a_limit() -> None:
    sys.setrecursionlimit(1 << 30)

    def further(depth: int) -> int:
        return further(depth + 1) + 1

    further(0)


def _print_megabytes() -> int:
    for _ in range(20):
        sys.stdout.write("x" * (1 << 20) + "\n")
    return 20


def _leave_threads() -> str:
    """One that crashes, and one that lives on for as long as its process."""
    threading.Thread(target=_crash, name="crashing").start()
    threading.Thread(target=_live_on, name="living on", daemon=False).start()
    return "left"


def _crash() -> None:
    raise ZeroDivisionError("in a thread of its own")


def _live_on() -> None:
    while True:
        time.sleep(60)


def _be_deaf() -> str:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return "deaf"


def _move_away() -> str:
    os.chdir("/")
    os.environ["TZ"] = "Pacific/Kiritimati"
    time.tzset()
    os.umask(0o777)
    locale.setlocale(locale.LC_ALL, "C")
    return os.getcwd()


def _stop_the_loop() -> None:
    asyncio.get_running_loop().stop()


def _raise_what_cannot_be_described() -> None:
    error = SyntaxError("odd", ("menu.py", 1, 1, "="))
    error.lineno, error.text = "one", 5  # type: ignore[assignment]
    raise error


def _raise_what_exits() -> None:
    class ExitsInStr(Exception):
        def __str__(self) -> str:
            sys.exit(3)

    raise ExitsInStr


async def _exit() -> None:
    await asyncio.sleep(0)
    sys.exit(3)


async def _exit_in_a_gathered_coroutine() -> None:
    await asyncio.gather(asyncio.sleep(1), _exit())


async def _exit_in_a_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(1))
        group.create_task(_exit())


async def _exit_in_a_task_beside() -> None:
    _BESIDE.append(asyncio.create_task(_exit()))
    await asyncio.sleep(0.1)
    raise RuntimeError("left a task behind")


async def _interrupt() -> None:
    raise KeyboardInterrupt


async def _interrupt_in_a_gathered_coroutine() -> None:
    await asyncio.gather(_interrupt())


async def _cancel_everything() -> None:
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(1)


async def _shut_the_executor_down() -> None:
    await asyncio.get_running_loop().shutdown_default_executor()


def _pools() -> int:
    """Pools whose processes are ended by SIGTERM, as `Pool.__exit__` does."""
    fork = multiprocessing.get_context("fork")
    total = 0
    for _ in range(4):
        with fork.Pool(4) as pool:
            total += sum(pool.map(abs, [-1, -1]))
            children = multiprocessing.active_children()
        for child in children:
            child.join(5)
        if any(child.is_alive() for child in children):
            raise AssertionError("they ignored SIGTERM")
    return total


def _hoard() -> None:
    _HOARD.append(os.urandom(1 << 20) * 300)


def _fork() -> bool:
    return os.fork() > 0


_HOARD: list[bytes] = []
_BESIDE: list[asyncio.Task[None]] = []
_LONG_DEEDS = {
    "exit in a gathered coroutine": _exit_in_a_gathered_coroutine,
    "exit in a task group": _exit_in_a_task_group,
    "exit in a task beside": _exit_in_a_task_beside,
    "interrupt in a gathered coroutine": _interrupt_in_a_gathered_coroutine,
    "cancel everything": _cancel_everything,
    "shut the executor down": _shut_the_executor_down,
}
_DEEDS = {
    "close everything": _close_everything,
    "close the output": _close_the_output,
    "eat memory": _eat_memory,
    "recurse": lambda: _recurse(),
    "recurse without a limit": _recurse_without_a_limit,
    "print megabytes": _print_megabytes,
    "leave threads": _leave_threads,
    "exit": lambda: os._exit(1),
    "segfault": lambda: ctypes.string_at(0),
    "be deaf": _be_deaf,
    "move away": _move_away,
    "stop the loop": _stop_the_loop,
    "fork": _fork,
    "pools": _pools,
    "hoard": _hoard,
    "raise what cannot be described": _raise_what_cannot_be_described,
    "raise what exits": _raise_what_exits,
    "block for a while": lambda: time.sleep(10),
    "block": lambda: time.sleep(3600),
    "hold the interpreter lock": lambda: ctypes.PyDLL(None).sleep(4),
}


def _recurse() -> None:
    _recurse()
