"""The Lua scripts of `lua/` as callables: composed, hashed, sent.

A script's header is the one statement of its keys: `-- KEYS: tasks ready` names attributes of `Keys`. A call passes those keys, and
the script begins with `local tasks, ready = ...`, which the shared prelude sees as well. EVALSHA with a fallback to EVAL, so a
restarted or flushed server needs nothing; never FUNCTION LOAD, where one old pod would downgrade all others.

Variants: the script `name+variant` has the keys that the header lists behind `+variant:`, and the lines that end in `--+variant`;
`name+one+other` has those of both. The plain script has none, so that what few calls need costs the others nothing.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from stoker.errors import RedisRefused, RedisUnavailable
from stoker.queue.keys import Keys
from stoker.redis.client import RedisClient, Routed
from stoker.redis.connect import ThreadClient
from stoker.redis.durability import PATIENCE
from stoker.redis.failures import errors_mapped, mapped
from stoker.redis.replies import ErrorReply, code

Argument = str | bytes | int | float
T = TypeVar("T")
_FOLDER = Path(__file__).with_name("lua")

REDIS_TIME = "redis.call('TIME')"
"""How scripts read the clock; the prelude has it once."""
_time = REDIS_TIME

# The allow-oom of Redis 6.2: a script may go on when memory is full if its first write needs none.
_LIGHT_WRITE = "redis.call('PERSIST', KEYS[1])\n"


_HEADER = re.compile(r"^-- KEYS:((?: .*\n--)*?) ARGV:", re.MULTILINE)
_COMMENT, _WORD = re.compile(r"--.*"), re.compile(r"\w+")
_DEFINITION = re.compile(r"^(?=local |function )", re.MULTILINE)
_VARIANT_LINE = re.compile(r"^.*--\+(\w+)\n", re.MULTILINE)
_DEFINED = re.compile(r"^(?:local function |function |local )([\w, ]+)")

PRELUDE = (
    *("_prelude", "_minding", "_events", "_promote", "_parking", "_schedules", "_story", "_handlers", "_unclaimed"),
    *("_solitude", "_reclaim", "_admit"),
    *("_effects", "_inbox"),
)
"""The files of shared functions, in the order of their dependencies."""


class Script(NamedTuple):
    """One script: its whole text, the SHA-1 that EVALSHA wants, and the attributes of `Keys` that it takes as KEYS, in order."""

    text: str
    sha: str
    keys: tuple[str, ...]


class ScriptCall(NamedTuple):
    """One call of a script by name, on the keys of one partition of a queue.

    `before` is a call without effect, of a script that goes before this one in a round trip. If the server has forgotten both
    scripts, it is loaded first, so that this one never runs without the other.
    """

    script: str
    keys: Keys
    arguments: Sequence[Argument]
    before: "ScriptCall | None" = None

    def by_hash(self, *, old: bool = False) -> Routed:
        """EVALSHA, for a server that has the script."""
        names = key_names(self.script, self.keys)
        return Routed(names[0], ("EVALSHA", load(self.script, old=old).sha, len(names), *names, *self.arguments))

    def by_text(self, *, old: bool = False) -> Routed:
        """EVAL, for any server."""
        names = key_names(self.script, self.keys)
        return Routed(names[0], ("EVAL", load(self.script, old=old).text, len(names), *names, *self.arguments))


@lru_cache(1024)  # of names: making them takes longer than most of what is done with them
def key_names(script: str, keys: Keys) -> tuple[str, ...]:
    """The names of the keys that a script takes."""
    return tuple(getattr(keys, name) for name in load(script).keys)


@cache
def load(name: str, *, old: bool = False) -> Script:
    """The script `lua/<name>.lua`, or a variant of it, behind its keys and the prelude.

    A `#!lua` line must stay the first; `old` servers get none.
    """
    file, *variants = name.split("+")
    body = _VARIANT_LINE.sub(lambda line: line[0] if line[1] in variants else "", (_FOLDER / f"{file}.lua").read_text())
    flags, newline, rest = body.partition("\n") if body.startswith("#!") else ("#!lua", "\n", body)
    prelude = "".join((_FOLDER / f"{part}.lua").read_text() for part in PRELUDE)
    if old:
        flags, newline = "", _LIGHT_WRITE if "allow-oom" in flags else ""
    keys = keys_of(rest, *variants)
    named = f"local {', '.join(keys)} = unpack(KEYS)\n"
    text = flags + newline + named + _wanted(prelude, rest).replace(REDIS_TIME, _time) + rest
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), keys)


def keys_of(script: str, *variants: str) -> tuple[str, ...]:
    """The keys that a script's header names, those of variants last."""
    [header] = _HEADER.findall(script)
    plain, *sections = header.split("+")
    more = dict(keys.split(":") for keys in sections)
    return tuple(_WORD.findall(" ".join([plain, *(more[variant] for variant in variants)])))


def _wanted(prelude: str, script: str) -> str:
    """The prelude's definitions that a script uses, itself or through others: Lua makes each of them at every call."""
    definitions = [(text, _words("".join(_DEFINED.findall(text)))) for text in _DEFINITION.split(_COMMENT.sub("", prelude))]
    words, kept = _words(_COMMENT.sub("", script)), set[str]()
    while more := {text for text, names in definitions if text not in kept and words & names}:
        kept |= more
        words |= _words("".join(more))
    return "".join(text for text, _ in definitions if text in kept)


def _words(lua: str) -> set[str]:
    return set(_WORD.findall(lua))


def take_time_from(expression: str = REDIS_TIME) -> None:
    """Make the scripts of this process read {seconds, microseconds} from another Lua expression, for the clock of `stoker.testing`.

    Changed texts have other hashes, so scripts that a server has cached stay as they are.
    """
    global _time
    _time = expression
    load.cache_clear()


async def run(redis: RedisClient, *calls: ScriptCall) -> list[Any]:
    """Run scripts in one round trip, in order, not as a transaction. Returns their replies.

    A script that the server has not cached runs after the others, in a second round trip: no call may depend on an earlier one.
    Raises RedisUnavailable or RedisRefused for the first that failed; those before it have taken effect.
    """
    try:  # not errors_mapped(), which costs as much as the rest of this function
        replies = await redis.round_trip([call.by_hash(old=redis.old) for call in calls])
        return await _load_missing(redis, calls, replies) if any(map(_failed, replies)) else replies
    except (ErrorReply, OSError) as error:
        raise mapped(error) from error


async def run_each(redis: RedisClient, *calls: ScriptCall) -> list[Any]:
    """As `run`, but a call that fails gets its RedisUnavailable or RedisRefused as its reply, and the others theirs.

    Raises RedisUnavailable if Redis does not answer.
    """
    with errors_mapped():
        replies = await redis.round_trip([call.by_hash(old=redis.old) for call in calls])
    return [await _checked(redis, call, reply) for call, reply in zip(calls, replies, strict=True)]


async def _checked(redis: RedisClient, call: ScriptCall, reply: Any) -> Any:
    try:
        [reply] = await _load_missing(redis, [call], [reply])
    except (ErrorReply, OSError) as error:
        return mapped(error)
    except (RedisUnavailable, RedisRefused) as error:
        return error
    return reply


async def run_behind(redis: RedisClient, blocking: tuple[Argument, ...], call: ScriptCall, blocks: float) -> Any | None:
    """Run a script right after a command that blocks for up to `blocks` seconds, in the same round trip.

    Returns the script's reply, None if the server has not cached it. Uses its own connection: cancelling the call closes it, so
    that the script does not run later.
    """
    with errors_mapped():
        fetch = call.by_hash(old=redis.old)
        ended, reply = await redis.alone([Routed(fetch.key, blocking), fetch], blocks=blocks)
    if isinstance(ended, Exception):
        raise mapped(ended) from ended
    if _not_run(reply):
        return None
    if isinstance(reply, Exception):
        raise mapped(reply) from reply
    return reply


async def run_as_made(redis: RedisClient, calls: Iterable[ScriptCall]) -> list[Any]:
    """As `run`, for long calls: each is sent before the next is built."""
    made = []

    def commands() -> Iterator[Routed]:
        for call in calls:
            made.append(call)
            yield call.by_hash(old=redis.old)

    with errors_mapped():
        return await _load_missing(redis, made, await redis.stream(commands()))


async def _load_missing(redis: RedisClient, calls: Sequence[ScriptCall], replies: list[Any]) -> list[Any]:
    """The replies, after running those calls whose script the server had not cached."""
    for at, reply in enumerate(replies):
        if code(reply) == "NOSCRIPT":
            replies[at] = await _run_by_text(redis, calls[at])
        elif isinstance(reply, Exception):
            raise mapped(reply) from reply
    return replies


async def run_and_ask(redis: RedisClient, calls: Sequence[ScriptCall], question: tuple[Argument, ...]) -> tuple[list[Any], Any]:
    """Run idempotent scripts, then a command about their writes (WAIT, WAITAOF) on the same connection.

    Returns the scripts' replies and the command's, which may be an error. If the server has not cached a script, all are sent
    again by their texts with the command, which covers only the writes of its own connection.
    """
    with errors_mapped():
        *replies, answer = await _asked(redis, [call.by_hash(old=redis.old) for call in calls], question)
        for _ in range(2):
            if not any(map(_not_run, replies)):
                break
            if any(map(_unreadable, replies)):
                redis.old = True
            *again, answer = await _asked(redis, [call.by_text(old=redis.old) for call in calls], question)
            replies = [new if _not_run(was) else was for was, new in zip(replies, again, strict=True)]
    for reply in replies:
        if isinstance(reply, Exception):
            raise mapped(reply) from reply
    return replies, answer


async def _asked(redis: RedisClient, commands: Sequence[Routed], question: tuple[Argument, ...]) -> list[Any]:
    return await redis.alone([*commands, Routed(commands[0].key, question)], blocks=PATIENCE)


def _failed(reply: Any) -> bool:
    return isinstance(reply, Exception)


def _not_run(reply: Any) -> bool:
    return code(reply) == "NOSCRIPT" or _unreadable(reply)


def _unreadable(reply: Any) -> bool:
    """Whether the server is too old for a script's `#!lua` line."""
    return isinstance(reply, ErrorReply) and "unexpected symbol near '#'" in str(reply)


async def _run_by_text(redis: RedisClient, call: ScriptCall) -> Any:
    """Run a script by its text, which also caches it in the server."""
    if call.before:
        await _run_by_text(redis, call.before)
    [reply] = await redis.round_trip([call.by_text(old=redis.old)])
    if _unreadable(reply):
        redis.old = True
        [reply] = await redis.round_trip([call.by_text(old=redis.old)])
    if isinstance(reply, Exception):
        raise reply
    return reply


def run_blocking(redis: ThreadClient, call: ScriptCall) -> Any:
    """Run one script on a ThreadClient. Retries once: the connection may have been closed while idle."""
    try:
        [reply] = redis.run(lambda client: run(client, call))
    except RedisUnavailable:
        [reply] = redis.run(lambda client: run(client, call))
    return reply


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
