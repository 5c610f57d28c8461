"""End tasks of the event loop for certain.

Before Python 3.12 `asyncio.wait_for`, also in a library, may lose a cancellation: whoever asks once may wait for ever.
"""

import asyncio
from typing import Any

ASK_AGAIN = 0.5


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel these until all have ended, however they end."""
    pending = set(tasks)
    while pending:
        for each in pending:
            each.cancel()
        _, pending = await asyncio.wait(pending, timeout=ASK_AGAIN)
    await asyncio.gather(*tasks, return_exceptions=True)
