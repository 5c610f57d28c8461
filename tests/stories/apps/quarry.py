"""Application of the stories about logs (test_logs): it configures logging as frameworks do, and fails in several ways."""

import logging
import logging.config
import os

from stoker import Context, Retry, Stoker

app = Stoker("quarry")
CONFIG = {
    "version": 1,
    "formatters": {"own": {"format": "OWN %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "own"}},
    "root": {"level": "WARNING", "handlers": ["console"]},
}
if "QUARRY_CONFIGURES" in os.environ:
    logging.config.dictConfig(CONFIG)  # disables all loggers that exist


@app.task()
async def dig() -> None:
    logging.getLogger("quarry").warning("a line of the application")


@app.task(retry=Retry(max_retries=1, initial_delay=0.01))
async def collapse() -> None:
    raise RuntimeError("\x1b[2Jno ground\n12:00:00.000 ERROR a forged line")


@app.task(executor="process", retry=0)
def blast(ctx: Context) -> None:
    ctx.log.info("lighting the fuse")
    logging.getLogger("quarry").warning("a line of the child")
    raise ValueError("wet powder")


@app.task()
async def configure_again() -> None:
    logging.config.dictConfig(CONFIG)
