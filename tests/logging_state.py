"""What a test does to logging ends with it: pages and commands configure it as applications do, in the process of the tests."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logging_restored() -> Iterator[None]:
    """Handlers, levels, `propagate` and `disabled` of all loggers are afterwards what they were."""
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    before = [(each, each.handlers[:], each.level, each.propagate, each.disabled) for each in loggers]
    try:
        yield
    finally:
        known = {logger for logger, *_ in before}
        new = {logging.getLogger(name) for name in list(logging.root.manager.loggerDict)} - known
        before += [(logger, [], logging.NOTSET, True, False) for logger in new]
        for logger, handlers, level, propagate, disabled in before:
            if logger.name.partition(".")[0] == "stoker":
                logger.__class__ = logging.Logger
            logger.handlers[:], logger.level, logger.propagate, logger.disabled = handlers, level, propagate, disabled
        logging.root.manager._clear_cache()  # type: ignore[attr-defined]
