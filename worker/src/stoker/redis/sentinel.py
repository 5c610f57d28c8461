"""Sentinels: asks them for the master's address whenever a connection is opened. Uses redis-py."""

from collections.abc import Sequence
from typing import Any, cast

from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from stoker.errors import RedisRefused
from stoker.redis.failures import code_of
from stoker.redis.redispy import TlsConnection, for_redispy, limited, translate
from stoker.redis.reply_limit import ReplyLimit
from stoker.redis.url import Host, Options

_BAD_CREDENTIALS = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})


class Sentinels:
    """The sentinels of one master. The one that answered last is asked first."""

    def __init__(self, name: str, hosts: Sequence[Host], options: Options, limit: ReplyLimit) -> None:
        self.hosts = list(hosts)
        self._name = name
        self._limited = limited(limit)
        self._options = {**for_redispy(options), "retry": Retry(NoBackoff(), 0)}

    async def master(self) -> Host:
        """The master's address. Raises ConnectionError when no sentinel knows it now, RedisRefused for a wrong name or credentials.

        Opens new clients each time: redis-py reorders its sentinels during concurrent calls, and may lose some.
        """
        troubles: list[Exception] = []
        known: set[str] = set()
        hosts = tuple(self.hosts)
        async with Sentinel(hosts, sentinel_kwargs=self._options) as asked:  # type: ignore[no-untyped-call]
            for host, sentinel in zip(hosts, asked.sentinels, strict=True):
                sentinel.connection_pool.connection_kwargs.update(self._limited)
                if sentinel.connection_pool.connection_class is SSLConnection:
                    sentinel.connection_pool.connection_class = TlsConnection
                try:
                    masters = cast(dict[str, Any], await sentinel.sentinel_masters())
                except RedisError as error:
                    troubles.append(translate(error))
                    continue
                known.update(masters)
                if (state := masters.get(self._name)) and asked.check_master_state(state, self._name):
                    self.hosts.sort(key=lambda each: each != host)
                    return state["ip"], state["port"]
        raise self._not_found(known, troubles)

    def _not_found(self, known: set[str], troubles: Sequence[Exception]) -> Exception:
        name = self._name
        reasons = "; ".join(dict.fromkeys(map(str, troubles))) or "it is down, and no other has taken over yet"
        if len(troubles) < len(self.hosts) and name not in known:
            others = ", ".join(sorted(known)) or "none"
            return RedisRefused(f"the sentinels know no master of the URL's name: correct it ({name!r}; they know {others})")
        if len(troubles) == len(self.hosts) and any(code_of(each) in _BAD_CREDENTIALS for each in troubles):
            advice = "give sentinel_username and sentinel_password in the URL's query"
            return RedisRefused(f"the sentinels refuse these credentials: {advice} ({reasons})")
        return ConnectionError(f"the sentinels name no master {name!r}: {reasons}")
