"""All that a database holds, read in one step, compared, and put back: the truth that laws are held against."""

from functools import cached_property
from typing import Any

from stoker.queue.keys import Keys
from tests.proof.model_time import Clocks, Now
from tests.proof.straight import Straight

READ = """
local readers = {
  zset = {'ZRANGE', 0, -1, 'WITHSCORES'}, hash = {'HGETALL'}, list = {'LRANGE', 0, -1}, set = {'SMEMBERS'}, string = {'GET'},
  stream = {'XRANGE', '-', '+'},
}
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  local reader = readers[kind]
  all[#all + 1] = {key, kind, redis.call(reader[1], key, unpack(reader, 2))}
end
return all
"""
DUMP = """
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do all[#all + 1] = key; all[#all + 1] = redis.call('DUMP', key) end
return all
"""
RESTORE = """
for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('DEL', key) end
for at = 1, #ARGV, 2 do redis.call('RESTORE', ARGV[at], 0, ARGV[at + 1]) end
"""
EMPTY: dict[bytes, bytes] = {}


class Picture:
    """The content of all keys at one moment."""

    def __init__(self, client: Straight, keys: Keys) -> None:
        [reply] = client.exchange([("EVAL", READ, 0)])
        if isinstance(reply, Exception):
            raise reply
        self._keys = keys
        self._client = client
        self.content: dict[bytes, Any] = {key: _content(kind, content) for key, kind, content in reply}

    def zset(self, key: str) -> dict[bytes, float]:
        return {member: float(score) for member, score in self.content.get(key.encode(), {}).items()}

    def hash(self, key: str) -> dict[bytes, bytes]:
        return self.content.get(key.encode(), EMPTY)  # type: ignore[no-any-return]

    def length(self, key: str) -> int:
        return len(self.content.get(key.encode(), ()))

    @cached_property
    def clocks(self) -> Clocks:
        return Clocks.of(self.hash(self._keys.meta))

    @cached_property
    def now(self) -> Now:
        """The queue's time, as the last script that read the clock left it."""
        return self.clocks.reading

    def without(self, *keys: str) -> dict[bytes, Any]:
        """The content except for these keys."""
        return {key: content for key, content in self.content.items() if key.decode() not in keys}

    def reader(self) -> "Reader":
        return Reader(self._client, self)


class Reader(Straight):
    """A client that answers from a picture what is to be had there."""

    def __init__(self, client: Straight, picture: Picture) -> None:
        self._client = client
        self.picture = picture
        self.response_callbacks = {}

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        content = self.picture.content.get(str(args[1]).encode(), ())
        match args:
            case ("ZRANGE", _, 0, -1):
                return list(content)
            case ("HGETALL", _):
                return dict(content)
            case ("HKEYS" | "SMEMBERS", _):
                return list(content)
            case ("LLEN" | "ZCARD" | "HLEN" | "SCARD" | "XLEN", _):
                return len(content)
        return await self._client.execute_command(*args, **options)


def dump(client: Straight) -> list[bytes]:
    """Everything, in a form that `restore` takes."""
    [reply] = client.exchange([("EVAL", DUMP, 0)])
    return reply  # type: ignore[no-any-return]


def restore(client: Straight, dumped: list[bytes]) -> None:
    """Make the database what it was."""
    [reply] = client.exchange([("EVAL", RESTORE, 0, *dumped)])
    if isinstance(reply, Exception):
        raise reply


def _content(kind: bytes, content: Any) -> Any:
    if kind in (b"zset", b"hash"):
        return dict(zip(content[::2], content[1::2], strict=True))
    return content
