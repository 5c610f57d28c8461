"""A command's session with Redis: --redis-url, --namespace and --json, stated once, and what follows from them.

@with_session
def stats(session: Session, queues: Annotated[...] = None) -> None:
    found = session.run(work)
    session.show(found, lambda: print_table(...))
"""

import asyncio
import functools
import getpass
import inspect
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from stoker.cli.options import AsJson, Namespace, RedisUrl
from stoker.cli.output import print_json
from stoker.client.client import Client
from stoker.errors import NotFound, RedisRefused, RedisUnavailable
from stoker.queue.records import TaskStatus
from stoker.redis.url import shown_address
from stoker.settings import DEFAULT_NAMESPACE, DEFAULT_REDIS_URL

SHOWN_NAMES = 20
T = TypeVar("T")


class Session(NamedTuple):
    """The common options of one command."""

    redis_url: str
    namespace: str
    as_json: bool

    def run(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Connect, do `work`, close. Raises StokerError, with the address and the remedy, for any failure of Redis."""

        async def connected() -> T:
            client = Client.at(self.redis_url, self.namespace, actor=_user())
            try:
                return await work(client)
            finally:
                await client.close()

        where = f"Redis at {shown_address(self.redis_url)}"
        try:
            return asyncio.run(connected())
        except RedisUnavailable as error:
            advice = "start it, or pass its address with --redis-url or STOKER_REDIS_URL"
            raise RedisUnavailable(f"{where} is unavailable: {advice} ({error})") from error
        except RedisRefused as error:
            raise RedisRefused(f"{where} refuses: {error}") from error

    def show(self, value: Any, text: str | Callable[[], None]) -> None:
        """Print `value` as JSON with --json, else the text."""
        if self.as_json:
            print_json(value)
        elif isinstance(text, str):
            print(text)
        else:
            text()


def _user() -> str:
    """Who runs the command, for the audit."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in many containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def with_session(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the common flags in place of its `session` parameter."""
    signature = inspect.signature(command)
    own = [parameter for name, parameter in signature.parameters.items() if name != "session"]

    @functools.wraps(command)
    def run(redis_url: str, namespace: str, as_json: bool, **options: Any) -> None:
        command(session=Session(redis_url, namespace, as_json), **options)

    run.__signature__ = signature.replace(parameters=[*own, *_COMMON])  # type: ignore[attr-defined]
    return run


def _common(
    *, as_json: AsJson = False, redis_url: RedisUrl = DEFAULT_REDIS_URL, namespace: Namespace = DEFAULT_NAMESPACE
) -> None: ...


_COMMON = inspect.signature(_common).parameters.values()


async def find(client: Client, task_id: str, queue: str | None) -> TaskStatus:
    """The task in its queue, or in any queue. Raises NotFound."""
    return await (client.inspector.find(task_id) if queue is None else client.status(queue, task_id))


async def known_queues(client: Client, wanted: list[str]) -> list[str]:
    """These queues, or all. Raises NotFound for a queue that was never used: its name is probably mistyped."""
    if not wanted:
        return await client.inspector.queues()
    for name in await client.inspector.catalogue.unknown(wanted):
        known, more = await client.inspector.catalogue.page(SHOWN_NAMES)
        raise NotFound(f"unknown queue {name!r}; known: {', '.join(known) or 'none'}{' ...' if more else ''}")
    return wanted
