"""The first process of a container gets its signals. Where that is a shell, SIGTERM does not reach the worker below it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "busybox"})
FIRST = 1


def shell_before(pid: int | None = None, proc: Path = Path("/proc")) -> str:
    """The name of the shell that is the first process, above this one; '' where process 1 is this one, or no shell."""
    with suppress(OSError, ValueError):
        name = (proc / str(FIRST) / "comm").read_text().strip()
        if name in SHELLS and FIRST in _ancestors(os.getpid() if pid is None else pid, proc):
            return name
    return ""


def _ancestors(pid: int, proc: Path) -> Iterator[int]:
    while pid > FIRST:
        pid = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        yield pid


def warning(shell: str) -> str:
    """What is wrong, and the remedy."""
    return (
        f"the first process of this container is {shell}: SIGTERM ends that, and the worker is killed without a drain. "
        "Begin its last command with exec, as in `exec stoker worker ...`; in a Dockerfile write CMD as a JSON list"
    )
