"""Make contact sheets: python sheet.py URL [URL...]"""

import asyncio
import sys

from tasks import app, sheet_of

from stoker import TaskFailed


async def main(urls: list[str]) -> None:
    """Send all of them at once, then wait for each."""
    handles = [await sheet_of(url).enqueue() for url in urls]
    for url, handle in zip(urls, handles, strict=True):
        try:
            print(url, "->", await handle.result(timeout=120))
        except TaskFailed as failed:
            print(url, "failed:", failed)
    await app.close()


asyncio.run(main(sys.argv[1:]))
