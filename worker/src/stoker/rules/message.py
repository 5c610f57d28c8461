"""The wire format of a task: a JSON envelope, written at enqueue and never changed.

Nothing in it is executed, imported or unpickled. `task` is a name that the worker looks up among the functions that its
application registered; `payload` stays raw JSON until the function is called.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache

import msgspec

from stoker.errors import LONGEST, Invalid
from stoker.rules.plain import plain_int, plain_number, plain_text
from stoker.rules.retry import Backoff

MIN_PRIORITY, MAX_PRIORITY = -100, 100
MAX_PAYLOAD_BYTES = 256 * 1024
MAX_RETRIES = 1000
MAX_KEY = 255
MAX_VERSION = 1 << 63
MAX_HEADERS, MAX_HEADER_BYTES = 32, 8 * 1024

_ID = re.compile(r"[!-~]{1,128}")
_QUEUE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-zA-Z0-9][-_.a-zA-Z0-9]{0,62}")  # no colon, brace or blank: keys begin with {namespace:queue}
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]  # ten bits each


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One task as stored in Redis.

    `payload` is a JSON object of named arguments, `created` epoch milliseconds of the client's clock, `trace` the W3C context of
    the enqueue, `timeout` and `soft_timeout` seconds. None leaves an option to the task's declaration, then to the queue.
    `schedule` and `scheduled_for` (epoch ms) identify a run of a schedule. `version` is that of the task's declaration: a worker
    that declares a lower one gives the task back. `retry` has precedence over `max_retries`. No run begins at or after `expires`
    (epoch ms, compared with Redis' clock). `onward` is what follows its success or its death, as read by `rules/workflow.py`.
    `handles`: the id of the dead task whose story it takes; nothing handles its own death.
    """

    id: str
    task: str
    payload: msgspec.Raw
    queue: str
    created: int
    priority: int = 0
    trace: dict[str, str] = {}
    max_retries: int | None = None
    timeout: float | None = None
    schedule: str | None = None
    scheduled_for: int | None = None
    version: int = 0
    retry: Backoff | None = None
    soft_timeout: float | None = None
    expires: int | None = None
    headers: dict[str, str] = {}
    onward: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    handles: str | None = None


class Success(msgspec.Struct, frozen=True):
    """A kept result: the function's return value as JSON, and the seconds it ran."""

    value: msgspec.Raw
    seconds: float


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Message)
_payload = msgspec.json.Decoder(dict[str, object])
_skim = msgspec.json.Decoder(msgspec.Raw).decode


def encode(message: Message) -> bytes:
    """The envelope's bytes, fields in the order of `Message`."""
    return _encoder.encode(message)


def decode(envelope: bytes) -> Message:
    """Decode an envelope. Raises Invalid when it is not one."""
    try:
        return _decoder.decode(envelope)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:  # ValueError: bytes that are not UTF-8
        raise Invalid(f"not a task envelope: {error}") from error


def encode_payload(arguments: Mapping[str, object]) -> msgspec.Raw:
    """Named arguments as JSON. Raises Invalid for values that JSON cannot carry, and for more than 256 KiB."""
    return msgspec.Raw(payload_bytes(arguments, _encoder.encode))


def payload_bytes(arguments: Mapping[str, object], encode: Callable[[object], bytes]) -> bytes:
    """`encode_payload` with an encoder that may know more types."""
    try:
        raw = encode(arguments)
        _skim(raw)  # a Raw among the arguments may be no JSON
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"the payload cannot be written as JSON: {error}") from error
    if len(raw) > MAX_PAYLOAD_BYTES:
        raise _too_large(raw)
    if not raw.startswith(b"{"):
        raise Invalid(f"the payload must be a JSON object of named arguments, not a {type(arguments).__name__}")
    return raw


def check_payload(raw: bytes) -> msgspec.Raw:
    """Raises Invalid unless these are a JSON object of at most 256 KiB."""
    if len(raw) > MAX_PAYLOAD_BYTES:
        raise _too_large(raw)
    try:
        _payload.decode(raw)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"the payload must be a JSON object of named arguments: {error}") from error
    return msgspec.Raw(raw)


def _too_large(raw: bytes) -> Invalid:
    return Invalid(f"the payload has {len(raw)} bytes, at most {MAX_PAYLOAD_BYTES} are allowed: pass a reference instead")


def same_task(a: Message, b: Message) -> bool:
    """Whether two envelopes under one id are the same task: name, queue and payload."""
    return (a.task, a.queue, bytes(a.payload)) == (b.task, b.queue, bytes(b.payload))


def check_id(task_id: str) -> str:
    """Raises Invalid unless it is 1 to 128 printable ASCII characters without blanks."""
    text = plain_text(task_id)
    if text is None or not _ID.fullmatch(text):
        raise Invalid(f"bad task id {task_id!r}: use 1 to 128 printable ASCII characters without blanks", "id")
    return text


def check_key(key: str, field: str = "") -> str:
    """Raises Invalid unless it is a text of 1 to 255 printable characters."""
    text = plain_text(key)
    if text is None or not 1 <= len(text) <= MAX_KEY or not text.isprintable():
        raise Invalid(f"bad key {key!r}: use 1 to {MAX_KEY} printable characters", field)
    return text


def id_of_key(queue: str, key: str) -> str:
    """The task id of an idempotency key: the same key always gives the same id."""
    return "idem-" + digest(queue, key)


def digest(*parts: str) -> str:
    """128 bits of SHA-256 in hexadecimal, over a JSON list, in which different parts never read the same."""
    return hashlib.sha256(_encoder.encode(parts)).hexdigest()[:32]


def check_queue(name: str) -> str:
    """Raises Invalid unless it is a valid name of a Kubernetes object, of at most 63 characters."""
    text = name if type(name) is str else plain_text(name)
    if text is None or not is_queue(text):
        raise Invalid(f"bad queue name {name!r}: use lower-case letters, digits, '-' and '.', at most 63 characters", "queue")
    return text


@lru_cache(256)
def is_queue(name: str) -> bool:
    """Whether it is a valid name of a Kubernetes object, of at most 63 characters."""
    return _QUEUE.fullmatch(name) is not None


def check_task(name: str) -> str:
    """Raises Invalid unless it is a text that is not empty."""
    if type(name) is str and name.isascii() and name:
        return name
    text = plain_text(name)
    if text is None:
        raise Invalid(f"bad task name {name!r}: use a text", "task")
    if not text:
        raise Invalid("the task's name is missing", "task")
    return text


@lru_cache(256)
def check_namespace(name: str) -> str:
    """Raises Invalid unless it can be the namespace of keys: any Kubernetes namespace can."""
    if not _NAMESPACE.fullmatch(name):
        raise Invalid(f"bad namespace {name!r}: use letters, digits, '-', '_' and '.', at most 63 characters", "namespace")
    return name


def check_priority(priority: int) -> int:
    """Raises Invalid outside -100..100. Higher runs first, as in a Kubernetes PriorityClass."""
    number = plain_int(priority)
    if number is None or not MIN_PRIORITY <= number <= MAX_PRIORITY:
        raise Invalid(f"bad priority {priority!r}: use a whole number within {MIN_PRIORITY}..{MAX_PRIORITY}", "priority")
    return number


def check_timeout(seconds: float, field: str = "timeout") -> float:
    """Raises Invalid unless it is a number of seconds above 0."""
    number = plain_number(seconds)
    if number is None or not 0 < number <= LONGEST:
        raise Invalid(f"bad {field} {seconds!r}: use a number of seconds above 0", field)
    return number


def check_timeouts(soft: float | None, hard: float | None) -> tuple[float | None, float | None]:
    """Both. Raises Invalid unless both are above 0, and the soft one is the shorter."""
    if soft is not None:
        soft = check_timeout(soft, "soft_timeout")
    if hard is not None:
        hard = check_timeout(hard)
    if soft is not None and hard is not None and soft >= hard:
        raise Invalid(f"the soft timeout of {soft:g} s would come too late: the timeout is {hard:g} s", "soft_timeout")
    return soft, hard


def check_delay(seconds: float) -> float:
    """Raises Invalid unless it is 0 seconds or more."""
    number = plain_number(seconds)
    if number is None or not 0 <= number <= LONGEST:
        raise Invalid(f"bad delay {seconds!r}: use a number of seconds, 0 or more", "delay")
    return number


def check_retries(count: int) -> int:
    """Raises Invalid outside 0..1000."""
    number = plain_int(count)
    if number is None or not 0 <= number <= MAX_RETRIES:
        raise Invalid(f"bad max_retries {count!r}: use a whole number within 0..{MAX_RETRIES}", "max_retries")
    return number


def check_version(version: int) -> int:
    """Raises Invalid unless it is a whole number, 0 or more, of at most 63 bits."""
    number = plain_int(version)
    if number is None or not 0 <= number < MAX_VERSION:
        raise Invalid(f"bad version {version!r}: use a whole number, 0 or more", "version")
    return number


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Raises Invalid unless they are at most 32 texts under names, of 8 KiB together in UTF-8."""
    if not isinstance(headers, Mapping):
        raise Invalid(f"bad headers {headers!r}: use a dict of texts", "headers")
    texts = [plain_text(text) for pair in headers.items() for text in pair]
    if None in texts or "" in texts[::2]:
        raise Invalid("bad headers: names and values are texts that UTF-8 can write, and no name is empty", "headers")
    size = sum(len(text.encode()) for text in texts if text)
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise Invalid(
            f"{len(headers)} headers of {size} bytes: at most {MAX_HEADERS} of {MAX_HEADER_BYTES} bytes together are carried",
            "headers",
        )
    return dict(zip(texts[::2], texts[1::2], strict=True))  # type: ignore[arg-type]  # none is None


class IdFactory:
    """Makes ULIDs: 48 bits of milliseconds and 80 random bits, each sorting after the last.

    Source: the ULID specification, monotonic variant (within a millisecond the random part counts up).
    """

    def __init__(self) -> None:
        self._last = 0
        self._prefix = ""  # all but the last ten bits: within a millisecond they seldom change

    def __call__(self) -> str:
        now, last = time.time_ns() // 1_000_000, self._last
        # A clock that stands still or goes back must not reorder this client's tasks.
        self._last = following = now << 80 | int.from_bytes(os.urandom(10)) if now > last >> 80 else last + 1
        if following >> 10 != last >> 10:
            self._prefix = "".join([_PAIRS[following >> shift & 1023] for shift in range(120, 0, -10)])
        return self._prefix + _PAIRS[following & 1023]
