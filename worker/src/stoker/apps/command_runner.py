"""The parent of one program, which `apps/command.py` starts: runs it, and ends all of its descendants, in any session.

A program may leave processes behind that have left its process group. This process is their subreaper (set by the worker before
this starts), so all of them become its children, and none outlives it. Run as a file by a bare Python: it imports no Stoker.

SIGTERM is passed on to the program's process group. SIGUSR1 ends everything at once; the kernel sends it too when the worker ends.

Arguments: a file descriptor to read {path, number of arguments, arguments ..., NAME=value ...} from, joined by zero bytes; one to
write why the program cannot be run; the process id of the worker. Ends with the program's exit code or signal.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

ENDS_WITHIN = 10.0
"""Seconds until it gives up on descendants that cannot be killed: they wait for a disk."""


class _EndAll(BaseException):
    """SIGUSR1 came."""


def main() -> None:
    """Entry point."""
    wanted, report, worker = (int(word) for word in sys.argv[1:4])
    program = 0

    def pass_on(*_: object) -> None:
        if program:
            _kill(program, signal.SIGTERM, group=True)

    def end_all(*_: object) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        raise _EndAll

    status = int(signal.SIGKILL)  # as waitpid has it
    try:
        signal.signal(signal.SIGUSR1, end_all)
        signal.signal(signal.SIGTERM, pass_on)
        os.set_inheritable(report, False)
        with os.fdopen(wanted, "rb") as source:
            path, count, *words = source.read().split(b"\0")
        if os.getppid() == worker:  # it has not ended meanwhile
            program = os.fork()
            if not program:
                _become(path, words[: int(count)], words[int(count) :], report)
            status = _waited(program)
    except _EndAll:
        pass
    _end_descendants()
    _end_as(status)


def _become(path: bytes, arguments: list[bytes], variables: list[bytes], report: int) -> None:
    try:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.execve(path, arguments, dict(each.partition(b"=")[::2] for each in variables if each))  # noqa: S606
    except (OSError, ValueError) as error:
        os.write(report, str(error).encode(errors="replace"))
    finally:
        os._exit(127)


def _waited(program: int) -> int:
    """Wait for it; others that end meanwhile are orphans."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == program:
            return status


def _end_descendants() -> None:
    until = time.monotonic() + ENDS_WITHIN
    while time.monotonic() < until:
        for each in _descendants():
            _kill(each, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def _descendants() -> list[int]:
    """All that live now, from one pass over /proc: while they are killed others may be forked, which the next pass finds."""
    children: dict[int, list[int]] = {}
    for process, parent in _parents():
        children.setdefault(parent, []).append(process)
    found = children.get(os.getpid(), [])
    for each in found:  # grows
        found += children.get(each, [])
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    yield int(name), int(stat.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue  # it has ended


def _kill(process: int, number: signal.Signals, *, group: bool = False) -> None:
    with suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(process, number)


def _end_as(status: int) -> None:
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
