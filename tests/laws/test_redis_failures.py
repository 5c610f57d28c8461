"""Which error of ours an answer of Redis becomes: what passes may be tried again, what stays says how to mend it."""

import re
import ssl
from pathlib import Path

import pytest

from stoker.errors import RedisFull, RedisRefused, RedisUnavailable
from stoker.queue.health import complaint
from stoker.redis.failures import PASSING, TO_MEND, mapped
from stoker.redis.replies import ErrorReply, parse_info


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("the connection was closed"),
        ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 6379)"),
        ConnectionResetError("reset"),
        TimeoutError("Timeout: no answer in time"),
        ssl.SSLEOFError("EOF occurred in violation of protocol"),
        ErrorReply("ERR max number of clients reached"),
        *(ErrorReply(f"{code} of this") for code in sorted(PASSING)),
    ],
    ids=repr,
)
def test_this_passes(error: Exception):
    assert type(mapped(error)) is RedisUnavailable


@pytest.mark.parametrize(
    "error",
    [
        *(ErrorReply(f"{code} of this") for code in sorted(TO_MEND)),
        ErrorReply("WRONGPASS invalid username-password pair or user is disabled."),
        ErrorReply("NOPERM User w has no permissions to run the 'evalsha' command"),
        ErrorReply("ERR This instance has cluster support disabled"),
        ErrorReply("ERR unknown command 'EVALSHA'"),
        ssl.SSLCertVerificationError("certificate verify failed"),
    ],
    ids=repr,
)
def test_this_a_person_mends(error: Exception):
    assert type(mapped(error)) is RedisRefused


@pytest.mark.parametrize("advice", [*PASSING.values(), *TO_MEND.values()])
def test_brackets_hold_only_what_the_server_wrote(advice: str):
    """The operator's status shows what stands before them."""
    assert " (" not in advice


@pytest.mark.parametrize(
    "error",
    [
        ErrorReply("OOM command not allowed when used memory > 'maxmemory'."),
        ErrorReply(
            "ERR Error running script (call to f_1): @user_script:23: @user_script: 23: -OOM command not allowed when used memory"
        ),
    ],
    ids=["from the server", "from inside a script of Redis 6.2"],
)
def test_a_full_redis_is_an_error_of_its_own(error: Exception):
    assert type(mapped(error)) is RedisFull


@pytest.mark.parametrize(
    "said",
    [
        "ERR invalid password",
        "ERR Client sent AUTH, but no password is set",
        "ERR AUTH <password> called without any password configured for the default user. Are you sure?",
        "ERR wrong number of arguments for 'auth' command",
        "ERR wrong number of arguments for 'AUTH' command",
    ],
)
def test_what_is_said_of_credentials_without_a_code(said: str):
    assert str(mapped(ErrorReply(said))).startswith(TO_MEND["WRONGPASS"])


def test_what_the_caller_was_busy_with_does_not_count():
    error = ErrorReply("TRYAGAIN Multiple keys request during rehashing of slot")
    error.__context__ = ErrorReply("NOPERM some other Redis, some other time")
    assert type(mapped(error)) is RedisUnavailable


def test_what_a_server_says_of_itself_is_read_by_name():
    info = b"# Server\r\nredis_version:7.0.15\r\nexecutable:/opt/a:b\r\n\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n"
    assert parse_info(info) == {"redis_version": "7.0.15", "executable": "/opt/a:b", "maxmemory_policy": "noeviction"}


@pytest.mark.parametrize("code", [*sorted(PASSING), *sorted(TO_MEND), "OOM", "NOSCRIPT"])
def test_the_page_tells_of_it(code: str):
    page = (Path(__file__).resolve().parents[2] / "docs/how-to/redis.md").read_text()
    assert re.search(rf"^\| .*`{code}`", page, re.MULTILINE)


@pytest.mark.parametrize("code", [*sorted(TO_MEND), "OOM"])
def test_a_message_says_what_to_do_and_ends_with_redis_own_words(code: str):
    text = str(mapped(ErrorReply(f"{code} in its own words")))
    assert ": " in text
    assert text.endswith("in its own words)")


GOOD = {"redis_mode": "standalone", "redis_version": "7.0.15", "maxmemory_policy": "noeviction"}


@pytest.mark.parametrize(
    "info",
    [GOOD, GOOD | {"redis_version": "6.2.0"}, {"server_mode": "standalone", "valkey_version": "9.0.0"}, {}],
    ids=["7.0", "6.2", "another server", "one that says nothing"],
)
def test_a_good_server(info: dict[str, object]):
    assert complaint(info, cluster=False) is None


@pytest.mark.parametrize(
    ("told", "mend"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "CONFIG SET maxmemory-policy noeviction"),
        ({"maxmemory_policy": "volatile-ttl"}, "CONFIG SET maxmemory-policy noeviction"),
        ({"redis_version": "6.0.16"}, "needs Redis 6.2 or newer"),
        ({"redis_version": "5.0.14"}, "needs Redis 6.2 or newer"),
        ({"redis_mode": "cluster"}, "write redis+cluster://"),
        ({"redis_mode": "sentinel"}, "write redis+sentinel://"),
    ],
)
def test_a_server_that_would_lose_tasks(told: dict[str, object], mend: str):
    assert mend in str(complaint(GOOD | told, cluster=False))


def test_a_clusters_node_is_good_for_a_client_that_knows_clusters():
    assert complaint(GOOD | {"redis_mode": "cluster"}, cluster=True) is None
