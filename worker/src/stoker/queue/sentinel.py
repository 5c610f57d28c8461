"""Sentinels: they are asked where a master is whenever a connection to it is opened, and say why if they name none."""

from collections.abc import Mapping, Sequence

from stoker.errors import RedisRefused
from stoker.queue.access import Access
from stoker.queue.address import Host
from stoker.queue.failures import code_of
from stoker.queue.replies import ErrorReply, pairs

_NOT_LET_IN = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})
State = Mapping[bytes, bytes]


class Sentinels:
    """The sentinels of one master; any of them that answers will do. The one that answered last is asked first."""

    def __init__(self, name: str, hosts: Sequence[Host], access: Access) -> None:
        self.hosts = list(hosts)
        self._name = name
        self._access = access

    async def master(self) -> Host:
        """Where it is. Raises ConnectionError where none of them knows that now, RedisRefused where none ever will."""
        troubles: list[Exception] = []
        known: set[str] = set()
        for host in tuple(self.hosts):
            try:
                masters = await self._ask(host)
            except (OSError, ErrorReply) as error:
                troubles.append(error)
                continue
            known |= set(masters)
            if (state := masters.get(self._name)) and _is_up(state):
                self.hosts.sort(key=lambda each: each != host)
                return state[b"ip"].decode(), int(state[b"port"])
        raise self._unnamed(known, troubles)

    async def _ask(self, host: Host) -> dict[str, State]:
        wire = await self._access.open(host)
        try:
            [reply] = await wire.round_trip([("SENTINEL", "MASTERS")], self._access.patience)
        finally:
            wire.cut()
        if isinstance(reply, ErrorReply):
            raise reply
        states = [pairs(each) for each in reply]
        return {state[b"name"].decode(): state for state in states}

    def _unnamed(self, known: set[str], troubles: Sequence[Exception]) -> Exception:
        name = self._name
        reasons = "; ".join(dict.fromkeys(map(str, troubles))) or "it is down, and no other has taken over yet"
        if len(troubles) < len(self.hosts) and name not in known:
            return RedisRefused(f"the sentinels know no master {name!r}, only {', '.join(sorted(known)) or 'none'}: mend the URL")
        if len(troubles) == len(self.hosts) and any(code_of(each) in _NOT_LET_IN for each in troubles):
            advice = "give sentinel_username and sentinel_password in the URL's query"
            return RedisRefused(f"the sentinels refuse these credentials: {advice} ({reasons})")
        return ConnectionError(f"the sentinels name no master {name!r}: {reasons}")


def _is_up(state: State) -> bool:
    return not {b"s_down", b"o_down"} & set(state[b"flags"].split(b","))
