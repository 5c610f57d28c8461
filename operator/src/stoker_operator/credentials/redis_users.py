"""Redis users that must exist: made when they are named, and made again when Redis has lost them.

Redis forgets users in a restart (unless it has an `aclfile`), and a replica that becomes the master never had them.
"""

import asyncio
import logging
from typing import Protocol

from stoker_operator.credentials.tenant import User
from stoker_operator.state.problem import Problem
from stoker_operator.state.write_guard import NotLeader

log = logging.getLogger(__name__)


class Accounts(Protocol):
    """The users of the Redis at a URL. The methods raise nothing but NotLeader."""

    async def set_user(self, url: str, user: User) -> Problem | None:
        """Make a user so. Returns why Redis did not."""

    async def user_names(self, url: str) -> set[str] | None:
        """The users there are; None if Redis did not answer."""


class RedisUsers:
    """The users of the operator's own Redis, at `url`. Belongs to one event loop."""

    def __init__(self, accounts: Accounts, url: str) -> None:
        self.url = url
        self._accounts = accounts
        self._wanted: dict[str, User] = {}
        self._unmade: set[str] = set()

    async def ensure(self, user: User) -> Problem | None:
        """Make a user, now and whenever Redis has lost it. Returns why Redis did not make it now."""
        self._wanted[user.name] = user
        problem = await self._accounts.set_user(self.url, user)
        if problem is None:
            self._unmade.discard(user.name)
        return problem

    def want(self, user: User) -> None:
        """Make a user as soon as Redis answers, and whenever it has lost it."""
        if self._wanted.get(user.name) != user:
            self._unmade.add(user.name)
        self._wanted[user.name] = user

    def forget(self, name: str) -> None:
        """Leave a user as it is from now on."""
        self._wanted.pop(name, None)

    async def run(self, interval: float) -> None:
        """Until cancelled: look every `interval` seconds which users Redis has lost. Raises nothing."""
        while True:
            try:
                await self.restore()
            except NotLeader as error:
                log.info("Redis users not restored: %s", error)
            except Exception:
                log.exception("cannot restore users of Redis: defect in the operator")
            await asyncio.sleep(interval)

    async def restore(self) -> None:
        """Make those users that Redis does not have, or not with their new passwords."""
        if not self._wanted:
            return
        present = await self._accounts.user_names(self.url)
        if present is None:
            return
        for user in [user for name, user in self._wanted.items() if name not in present or name in self._unmade]:
            if await self.ensure(user) is None:
                log.info("made a Redis user", extra={"user": user.name})
