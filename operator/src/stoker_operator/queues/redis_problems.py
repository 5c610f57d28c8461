"""What a failed call to Redis means for its queues: the problem that their conditions show."""

from stoker.errors import Invalid, RedisRefused, RedisUnavailable, RedisUnreadable, StokerError
from stoker.redis.failures import REFUSED
from stoker.redis.reply_limit import NotRedis, ReplyTooLarge
from stoker_operator.allowed_redis import NotAllowed
from stoker_operator.queues.names import was_refused
from stoker_operator.state.problem import Problem
from stoker_operator.state.redis_problem import (
    invalid_redis_url,
    redis_not_allowed,
    redis_refused,
    redis_unreachable,
    redis_unreadable,
)


def problem_of(url: str, error: Exception) -> Problem:
    """The problem of a call that raised this. Call it once for each: a refused connection is forgotten then."""
    match error:
        case RedisUnavailable() if was_refused(url):
            return redis_not_allowed()
        case RedisUnreadable() | RedisUnavailable(__cause__=NotRedis()):
            return redis_unreadable()
        case RedisRefused() if str(error).startswith(REFUSED):  # an error that Redis has no name for: perhaps a banner
            return redis_unreadable()
        case RedisUnavailable():
            return redis_unreachable(error)
        case RedisRefused():
            return redis_refused(error)
        case _:
            return redis_unreadable()


def invalid(error: Invalid) -> Problem:
    """The problem of a URL that was not connected to."""
    return redis_not_allowed() if isinstance(error, NotAllowed) else invalid_redis_url(error)


def defect_in(error: Exception) -> BaseException | None:
    """What our own code raised about a reply, if it did: it should have said what is wrong."""
    if isinstance(error, RedisUnreadable):
        return error.__cause__
    return None if isinstance(error, StokerError) else error


def is_away(url: str, error: Exception) -> bool:
    """Whether no queue of this Redis can be read now, so that asking for each would take the timeout once more."""
    strange = isinstance(error.__cause__, NotRedis | ReplyTooLarge)
    return isinstance(error, RedisUnavailable) and not strange and "+cluster:" not in url.partition("//")[0]
