"""Sentinels, by redis-py: they are asked where a master is whenever a connection to it is opened, and say why if they name none."""

from collections.abc import Sequence
from typing import Any, cast

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from stoker.errors import RedisRefused
from stoker.redis.failures import code_of
from stoker.redis.redispy import for_redispy, ours
from stoker.redis.url import Host, Options

_NOT_LET_IN = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})


class Sentinels:
    """The sentinels of one master; any of them that answers will do. The one that answered last is asked first."""

    def __init__(self, name: str, hosts: Sequence[Host], options: Options) -> None:
        self.hosts = list(hosts)
        self._name = name
        self._options = {**for_redispy(options), "retry": Retry(NoBackoff(), 0)}

    async def master(self) -> Host:
        """Where it is. Raises ConnectionError where none of them knows that now, RedisRefused where none ever will.

        Each time by clients of its own: redis-py sorts its sentinels while others ask, and may forget some.
        """
        troubles: list[Exception] = []
        known: set[str] = set()
        hosts = tuple(self.hosts)
        async with Sentinel(hosts, sentinel_kwargs=self._options) as asked:  # type: ignore[no-untyped-call]
            for host, sentinel in zip(hosts, asked.sentinels, strict=True):
                try:
                    masters = cast(dict[str, Any], await sentinel.sentinel_masters())
                except RedisError as error:
                    troubles.append(ours(error))
                    continue
                known.update(masters)
                if (state := masters.get(self._name)) and asked.check_master_state(state, self._name):
                    self.hosts.sort(key=lambda each: each != host)
                    return state["ip"], state["port"]
        raise self._unnamed(known, troubles)

    def _unnamed(self, known: set[str], troubles: Sequence[Exception]) -> Exception:
        name = self._name
        reasons = "; ".join(dict.fromkeys(map(str, troubles))) or "it is down, and no other has taken over yet"
        if len(troubles) < len(self.hosts) and name not in known:
            return RedisRefused(f"the sentinels know no master {name!r}, only {', '.join(sorted(known)) or 'none'}: mend the URL")
        if len(troubles) == len(self.hosts) and any(code_of(each) in _NOT_LET_IN for each in troubles):
            advice = "give sentinel_username and sentinel_password in the URL's query"
            return RedisRefused(f"the sentinels refuse these credentials: {advice} ({reasons})")
        return ConnectionError(f"the sentinels name no master {name!r}: {reasons}")
