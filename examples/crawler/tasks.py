"""A polite crawler: each page once, two at a time from a host, no deeper than it was told."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

import httpx

from stoker import INJECTED, Concurrency, Context, Prepared, Retry, Snooze, State, Stoker

MOST_CHARACTERS = 1 << 20


@asynccontextmanager
async def lifespan(_: Stoker) -> AsyncIterator[httpx.AsyncClient]:
    """One pool of connections for the whole life of a worker."""
    async with httpx.AsyncClient(timeout=20, headers={"User-Agent": "stoker-example-crawler"}) as http:
        yield http


app = Stoker("crawler", lifespan=lifespan)


@dataclass
class Crawl:
    """What all its pages have in common."""

    name: str
    hosts: list[str]


@dataclass
class Page:
    """What was found at an address, and which pages are visited because of it."""

    url: str
    status: int
    title: str = ""
    leads_to: list[str] = field(default_factory=list)


class Markup(HTMLParser):
    """A page's title and its links, as they stand there."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title, self.links, self._in_title = "", list[str](), False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title"
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]

    def handle_data(self, data: str) -> None:
        self.title += data.strip() if self._in_title else ""

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False


@app.task(
    queue="pages",
    timeout=60,
    retry=Retry(max_retries=3, initial_delay=1),
    concurrency=Concurrency(lambda crawl, url, depth: urlsplit(url).netloc, limit=2),
)
async def visit(ctx: Context, crawl: Crawl, url: str, depth: int, http: State[httpx.AsyncClient] = INJECTED) -> Page:
    """Read one page. What it leads to is enqueued by the very step that records its result."""
    async with http.stream("GET", url) as answer:
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise Snooze(10, f"{urlsplit(url).netloc} wants us to slow down")
        if answer.is_server_error:
            answer.raise_for_status()
        page, links = Page(url, answer.status_code), [answer.headers["location"]] if answer.has_redirect_location else []
        if answer.is_success and answer.headers.get("content-type", "").startswith("text/html"):
            markup = Markup(await beginning(answer))
            page.title, links = markup.title, markup.links
    found = dict.fromkeys(urldefrag(urljoin(url, link)).url for link in links)
    page.leads_to = [link for link in found if depth > 0 and urlsplit(link).netloc in crawl.hosts]
    for link in page.leads_to:
        ctx.enqueue(once(crawl, link, depth - 1))
    return page


def once(crawl: Crawl, url: str, depth: int) -> Prepared[object, Page]:
    """A visit under an id that is the page's own: however many links lead there, it is one task. What is near goes first."""
    return visit.options(id=id_of(crawl.name, url), priority=min(depth, 100)).prepare(crawl, url, depth)


def id_of(crawl: str, url: str) -> str:
    """Under which id a crawl visits this page."""
    return f"{crawl}-{hashlib.sha256(url.encode()).hexdigest()[:32]}"


async def beginning(answer: httpx.Response) -> str:
    """As much of the text as is wanted."""
    text = ""
    async for chunk in answer.aiter_text():
        text += chunk
        if len(text) > MOST_CHARACTERS:
            break
    return text
