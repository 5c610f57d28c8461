"""Application of test_lifespan.py: a lifespan that opens, or fails as the variable PANTRY says."""

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
        case "collapsing":
            async with asyncio.TaskGroup() as shelves:
                shelves.create_task(collapse())
                yield "the pantry"
    yield "the pantry"


jam_is_wanted = asyncio.Event()


async def collapse() -> None:
    await jam_is_wanted.wait()
    raise OSError("the shelves are down")


app = Stoker("pantry", lifespan=lifespan)


@app.task()
async def fetch(what: str) -> str:
    if os.environ.get("PANTRY") == "collapsing":
        jam_is_wanted.set()
        await asyncio.sleep(3600)
    return f"{what} from {app.state}"
