"""What redis-py raises, in our own words: an answer of Redis keeps its code, whatever redis-py has made of it."""

import ssl

import pytest
from redis import exceptions
from redis._parsers import BaseParser

from stoker.errors import RedisRefused, RedisUnavailable
from stoker.redis.failures import PASSING, TO_MEND, mapped
from stoker.redis.redispy import translate
from stoker.redis.replies import ErrorReply


@pytest.mark.parametrize(
    "answer",
    [
        *(f"{code} of this" for code in sorted({*PASSING, *TO_MEND, "OOM", "NOSCRIPT"} - {"MOVED", "ASK"})),
        "MOVED 3999 127.0.0.1:6381",
        "ASK 3999 127.0.0.1:6381",
        "ERR max number of clients reached",
        "ERR invalid password",
        "ERR Error running script (call to f_1): @user_script:23: -OOM command not allowed",
    ],
)
def test_an_answer_keeps_its_words(answer: str):
    error = translate(BaseParser.parse_error(answer))
    assert type(error) is ErrorReply
    assert str(error) == answer


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("Error 111 connecting to 127.0.0.1:6379. Connection refused."),
        exceptions.TimeoutError("Timeout reading from 127.0.0.1:6379"),
        exceptions.MaxConnectionsError("Too many connections"),
        exceptions.RedisClusterException("All slots are not covered after query all startup_nodes."),
        exceptions.SlotNotCoveredError('Slot "1" not covered by the cluster.'),
        exceptions.ClusterError("TTL exhausted."),
        TimeoutError("Timeout: no answer in time"),
    ],
    ids=repr,
)
def test_this_passes(error: Exception):
    assert type(mapped(translate(error))) is RedisUnavailable


@pytest.mark.parametrize(
    ("cause", "mend"),
    [
        (BaseParser.parse_error("NOAUTH Authentication required."), "Redis wants credentials"),
        (BaseParser.parse_error("ERR This instance has cluster support disabled"), "write redis:// instead of redis+cluster://"),
        (ssl.SSLCertVerificationError("certificate verify failed"), "TLS with Redis fails"),
    ],
    ids=["credentials", "no cluster", "TLS"],
)
def test_what_happened_while_connecting_counts_and_not_its_wrapping(cause: Exception, mend: str):
    inner, outer = (
        exceptions.RedisClusterException("Cluster mode is not enabled on this node"),
        exceptions.RedisClusterException("No"),
    )
    inner.__context__, outer.__cause__ = cause, inner
    error = mapped(translate(outer))
    assert type(error) is RedisRefused
    assert mend in str(error)


def test_what_the_caller_was_busy_with_does_not_count():
    error = exceptions.TryAgainError("Multiple keys request during rehashing of slot", status_code="TRYAGAIN")
    error.__context__ = exceptions.NoPermissionError("some other Redis, some other time", status_code="NOPERM")
    assert type(mapped(translate(error))) is RedisUnavailable
