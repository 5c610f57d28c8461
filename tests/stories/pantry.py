"""The application of the stories about the lifespan of a worker process: it opens its pantry, or cannot."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stoker import Stoker


@asynccontextmanager
async def lifespan(_: Stoker) -> AsyncIterator[str]:
    match os.environ.get("PANTRY"):
        case "locked":
            raise ConnectionRefusedError("nobody has the key")
        case "slow":
            await asyncio.sleep(3600)
    yield "the pantry"


app = Stoker("pantry", lifespan=lifespan)


@app.task()
async def fetch(what: str) -> str:
    return f"{what} from {app.state}"
