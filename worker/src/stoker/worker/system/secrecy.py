"""Keep the Redis URL of a process from other processes of its user, such as the programs of `stoker.apps.command`.

They may read /proc/PID/environ and /proc/PID/mem of any process of their user that is dumpable, which every process is after exec.
So such processes are made not dumpable, and the URL is no part of the environment that one is started with: it comes through a
socket once the process is no longer dumpable.
"""

import asyncio
import ctypes
import os
import socket
import sys
from collections.abc import MutableMapping
from contextlib import suppress

URL, SOCKET = "STOKER_REDIS_URL", "STOKER_REDIS_URL_SOCKET"
RUNS_PROGRAMS = "stoker.apps.command"
"""The application whose tasks are programs."""
_PR_SET_DUMPABLE = 4


def hide() -> None:
    """Make this process not dumpable: no core dumps, and no debugger or py-spy but root's. Linux only; ends with an exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def take_url(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Hide, and take the Redis URL from the parent, if it hands one over. os.environ has it then, the block in /proc has not."""
    number = environment.pop(SOCKET, "")
    if not number:
        return False
    hide()
    with socket.socket(fileno=int(number)) as parent, parent.makefile("rb") as source:
        parent.sendall(b"\n")  # from now on it is safe
        environment[URL] = source.read().decode()
    return True


class Handover:
    """The parent's side: pass `descriptor` to the process, as `SOCKET` in its environment, and `give` once it is started."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ours, self._its = socket.socketpair()
        self._ours.setblocking(False)
        self.descriptor = self._its.fileno()

    def give(self) -> "asyncio.Task[None]":
        """Give it when the process asks. The task must be kept."""
        self._its.close()
        return asyncio.get_running_loop().create_task(self._give())

    async def _give(self) -> None:
        loop = asyncio.get_running_loop()
        with self._ours, suppress(OSError):  # it has ended
            if await loop.sock_recv(self._ours, 1):
                await loop.sock_sendall(self._ours, self._url.encode())

    def close(self) -> None:
        """The process could not be started."""
        self._ours.close()
        self._its.close()
