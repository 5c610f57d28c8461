"""ReplyLimit: how much memory the replies of one Redis may take. Beyond it the connection is cut.

A server may announce what it never sends (`*2147483647` makes hiredis allocate 16 GiB, which blocks the loop for seconds when it
is freed) or send more than the process has memory. So the headers of replies are read before hiredis sees them.
"""

from stoker.errors import Invalid

WIDE = 512 * 1024 * 1024
"""Bytes: the default, of workers and clients. They trust their Redis, and only the bytes that arrive are counted."""
NARROW = 16 * 1024 * 1024
"""Bytes: of operator and gateway, whose Redis may belong to a tenant. Headers are counted too."""
BUDGET = 64 * 1024 * 1024
"""Bytes that all connections of one narrow limit may take together."""
SMALL = 256 * 1024
"""Bytes that a connection may take although the budget is exhausted."""
ELEMENT = 64
"""Bytes that an element of an array costs, beside its content: an empty array is 4 bytes on the wire and 72 in Python."""

_BULK, _ARRAY, _LINES = ord("$"), ord("*"), b":+-"
_LONGEST_COUNT = 20


class ReplyTooLarge(ConnectionError):
    """The replies to one round trip exceed the limit. The connection was cut."""


class NotRedis(ConnectionError):
    """The peer does not speak the Redis protocol. Its words are not quoted: they may be a banner of another service."""


class _Held:
    """The bytes that count towards a budget now."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0


class ReplyLimit:
    """`most`: bytes for the replies to one round trip. With a `budget` headers are checked, and `budget` is for all connections.

    Belongs to one event loop, unless it has no budget.
    """

    def __init__(self, most: int = WIDE, budget: int | None = None, held: "_Held | None" = None) -> None:
        if most < SMALL:
            raise Invalid(f"a limit of {most} bytes for replies is too small: at least {SMALL}")
        self.most = most
        self.budget = budget
        self.of_all = held or _Held()

    @classmethod
    def narrow(cls) -> "ReplyLimit":
        """The limit of a process that serves several tenants."""
        return cls(NARROW, BUDGET)

    def part(self, most: int) -> "ReplyLimit":
        """A limit for one connection that draws on the same budget."""
        return ReplyLimit(most, self.budget, self.of_all)

    @property
    def held(self) -> int:
        """Bytes that count towards the budget now."""
        return self.of_all.size

    def too_large(self) -> ReplyTooLarge:
        """The error."""
        return ReplyTooLarge(f"a reply exceeds {self.most / 1024 / 1024:.3g} MiB")


class ReplyMeter:
    """What one connection has received since `done()`: the bytes, and with a budget the elements that its headers announce."""

    __slots__ = ("_head", "_limit", "_size", "_skip")

    def __init__(self, limit: ReplyLimit) -> None:
        self._limit = limit
        self._size = 0
        self._skip = 0  # bytes of a bulk string that are still to come
        self._head = b""  # the beginning of a header whose end is still to come

    def feed(self, data: bytes) -> None:
        """Count data before it is parsed. Raises ReplyTooLarge and, with a budget, NotRedis."""
        size = len(data)
        if self._limit.budget is not None:
            size += self._announced(data)
            self._limit.of_all.size += size
        self._size += size
        self._check(self._size)

    def done(self) -> None:
        """A round trip has ended, or the connection: count from 0 again."""
        if self._limit.budget is not None:
            self._limit.of_all.size -= self._size
        self._size = 0

    def _check(self, size: int) -> None:
        limit = self._limit
        if size > limit.most or (limit.budget is not None and limit.held > limit.budget and size > SMALL):
            raise limit.too_large()

    def _announced(self, data: bytes) -> int:
        """What the elements cost that these bytes announce. Raises for an announcement that would exceed the limit."""
        cost = 0
        if self._head:
            data, self._head = self._head + data, b""
        at, end = self._skip, len(data)
        while at < end:
            stop = data.find(b"\r\n", at)
            kind = data[at]
            if kind in (_BULK, _ARRAY):
                if stop < 0:
                    if end - at > _LONGEST_COUNT:
                        raise NotRedis("no length in the header of a reply")
                    self._head = data[at:]
                    at = end
                    break
                count = _count(data[at + 1 : stop])
                at = stop + 2
                if kind == _ARRAY:
                    cost += ELEMENT * max(count, 0)
                    self._check(self._size + cost)
                elif count >= 0:
                    self._check(self._size + cost + count)
                    at += count + 2
            elif kind in _LINES:
                if stop < 0:  # an error or a number: its end may come with the next bytes
                    self._head = data[at : at + 1] if end - at < 2 or data[-1:] != b"\r" else data[at : at + 1] + b"\r"
                    at = end
                    break
                at = stop + 2
            else:
                raise NotRedis("a reply of no known type")
        self._skip = max(0, at - end)
        return cost


def _count(text: bytes) -> int:
    if not text.removeprefix(b"-").isdigit() or len(text) > _LONGEST_COUNT:
        raise NotRedis("no length in the header of a reply")
    return max(int(text), -1)
