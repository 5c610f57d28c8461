"""Crawl the hosts of these addresses: python crawl.py DEPTH URL [URL...]"""

import asyncio
import sys
from uuid import uuid4

from tasks import Crawl, app, id_of, once, visit

from stoker import TaskFailed


async def main(depth: int, urls: list[str]) -> None:
    """Set it off, and tell of each page as it comes. Ctrl-C ends the telling, not the crawl."""
    crawl = Crawl(uuid4().hex[:8], [url.split("/")[2] for url in urls])
    await app.enqueue_many([once(crawl, url, depth) for url in urls])
    known = dict.fromkeys(urls)
    waiting = list(known)
    for url in waiting:  # it grows as pages come
        try:
            page = await visit.handle(id_of(crawl.name, url)).result(timeout=300)
        except TaskFailed as failed:
            print("failed", url, failed)
            continue
        print(page.status, url, page.title)
        new = [link for link in page.leads_to if link not in known]
        known |= dict.fromkeys(new)
        waiting += new
    print(f"crawl {crawl.name}: {len(known)} pages")
    await app.close()


asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
