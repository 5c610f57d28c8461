"""Problems with the Redis of a queue, and the message of each. None quotes the URL, which a Secret holds, or what answers there."""

from stoker_operator.state.problem import Problem, Reason


def former_redis_forgotten() -> Problem:
    """After a restart: the Secret was changed in place or deleted, so where its URL led before is not known any more."""
    return Problem(
        Reason.FORMER_REDIS_UNREADABLE,
        "since a restart of the operator its URL is not known any more: the Secret was changed or deleted",
    )


def invalid_redis_url(error: Exception) -> Problem:
    """The URL cannot be parsed."""
    return Problem(Reason.INVALID_REDIS_URL, str(error))


def redis_not_allowed() -> Problem:
    """The URL names, or leads to, an address that the operator may not connect to. Which is not said: a Secret holds the URL."""
    return Problem(
        Reason.REDIS_NOT_ALLOWED,
        "the operator may not connect to the Redis of this URL: an administrator adds its host or network to allowedRedis "
        "(operator.allowedRedis of the chart), or name another Redis",
    )


def redis_unreachable(error: Exception) -> Problem:
    """No connection, a broken one, or no answer in time."""
    return Problem(Reason.REDIS_UNREACHABLE, _without_details(error))


def redis_refused(error: Exception) -> Problem:
    """Redis answered with an error."""
    return Problem(Reason.REDIS_REFUSED, _without_details(error))


def redis_unreadable() -> Problem:
    """Something answered that no Redis, or no Stoker script, returns. One message for all: it describes no foreign service."""
    return Problem(Reason.REDIS_UNREADABLE, "what answers there is no Redis that Stoker can read: see the operator's log")


def _without_details(error: Exception) -> str:
    # In brackets follows the text of the server or the system. It may name the host or the user of a URL that a Secret holds,
    # or be what another service at that address answered.
    return str(error).partition(" (")[0]
