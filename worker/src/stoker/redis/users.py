"""ACL users of a Redis server: create, replace, list."""

import hashlib
from collections.abc import Sequence

from stoker.errors import RedisRefused
from stoker.redis.client import RedisClient, ask_everywhere
from stoker.redis.failures import code_of, errors_mapped, mapped
from stoker.redis.replies import ErrorReply

_UNKNOWN = "Unknown command or category"


class UsersRefused(RedisRefused):
    """This server has no ACL users, or its user may create none. The server's own text is left out: it may quote a rule."""


async def set_user(redis: RedisClient, name: str, password: str, rules: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Create a user with these rights alone and no channels, or make it so. Clients that are logged in stay so.

    `optional` rules are left out on a server that does not know one of them.

    Raises UsersRefused, RedisRefused or RedisUnavailable.
    """
    # The hash, so that no MONITOR and no slow log has the password. `resetchannels`: Redis 6.2 gives a reset user all of them.
    login = ("reset", "on", f"#{hashlib.sha256(password.encode()).hexdigest()}", "resetchannels")
    failed = await _try(redis, name, (*login, *rules, *optional))
    if failed is not None and optional and _UNKNOWN in str(failed):
        failed = await _try(redis, name, (*login, *rules))
    if failed is None:
        return
    if code_of(failed) in (None, "NOPERM"):
        raise UsersRefused("this Redis, or the user of its URL, permits no ACL SETUSER")
    raise mapped(failed) from failed


async def _try(redis: RedisClient, name: str, rules: Sequence[str]) -> ErrorReply | None:
    with errors_mapped():
        replies = await redis.everywhere("ACL", "SETUSER", name, *rules)
    return next((reply for reply in replies if isinstance(reply, ErrorReply)), None)


async def user_names(redis: RedisClient) -> set[str]:
    """The users that every master has. Raises RedisRefused or RedisUnavailable."""
    found = [{bytes(name).decode(errors="replace") for name in names} for names in await ask_everywhere(redis, "ACL", "USERS")]
    return set.intersection(*found) if found else set()
