"""OwnLines: writes the lines of `stoker` loggers, whatever the application does to logging, and none of them twice.

An application may replace the root's handlers, or disable all loggers that exist already (`dictConfig` does by default), when it is
imported, in its lifespan, or in a task. Handlers that it gives to the logger `stoker`, or to one below it, take the place of ours.
"""

import asyncio
import logging
from typing import NoReturn

NAME = "stoker"
HOLD_INTERVAL = 1.0
"""Seconds between two looks: for so long lines may be lost or doubled where a task gives loggers other handlers."""


class _NeverDisabled(logging.Logger):
    """What `dictConfig` and `fileConfig` do to loggers that exist has no effect."""

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None: ...


class OwnLines:
    """`handler` writes the lines of `stoker` loggers, and those of all others while the root has no other handler."""

    def __init__(self, handler: logging.Handler, level: int) -> None:
        self._handler = handler
        logging.getLogger(NAME).setLevel(level)
        self.hold()

    def hold(self) -> None:
        """Put right what the application has changed. Cheap: it is called once a second."""
        own, root = logging.getLogger(NAME), logging.getLogger()
        replaced = self._stand_back(root)
        for logger in _loggers():
            logger.disabled = False
            if type(logger) is logging.Logger:
                logger.__class__ = _NeverDisabled
            if logger is not own and logger.handlers:
                logger.propagate = False
        if self._stand_back(own):
            return
        if own.propagate and replaced:  # as it was asked to: we never set it
            own.removeHandler(self._handler)
            return
        own.propagate = False
        if self._handler not in own.handlers:
            own.addHandler(self._handler)

    async def keep(self) -> NoReturn:
        """Hold them until cancelled."""
        while True:
            self.hold()
            await asyncio.sleep(HOLD_INTERVAL)

    def _stand_back(self, logger: logging.Logger) -> bool:
        """Leave a logger to handlers of the application. Returns whether it has some."""
        others = any(handler is not self._handler for handler in logger.handlers)
        if others:
            logger.removeHandler(self._handler)
        return others


def _loggers() -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.copy()
    names = (name for name in known if name == NAME or name.startswith(f"{NAME}."))
    return [logger for name in names if isinstance(logger := known[name], logging.Logger)]


def handle_forwarded(record: logging.LogRecord) -> None:
    """Write a record of a child process, whose loggers have let it pass."""
    own = record.name == NAME or record.name.startswith(f"{NAME}.")
    logging.getLogger(NAME if own else None).handle(record)
