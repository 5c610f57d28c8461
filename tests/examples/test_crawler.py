"""examples/crawler: a small site of two hosts, with links in circles, that counts its visitors."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.examples.stage import staged
from tests.redis_servers import Server

AT_A_TIME = 2
COMPANY = 0.1
"""Seconds for which each visitor is kept, to see whether there is more than the allowed company."""


class Site(ThreadingHTTPServer):
    """Both `127.0.0.1` and `localhost`, which are two hosts to whoever is polite."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Visitor)
        self.hosts = [f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")]
        self.visits: Counter[str] = Counter()
        self.most = 0
        self.closed = {"/c"}  # to its first visitor
        self._here: Counter[str] = Counter()
        self._changed = threading.Condition()

    def visit(self, host: str, path: str) -> bool:
        """Somebody comes, stays for a moment, and goes. Returns whether there is anything to see."""
        with self._changed:
            self.visits[f"http://{host}{path}"] += 1
            self._here[host] += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._here[host] > AT_A_TIME, COMPANY)
            self.most = max(self.most, self._here[host])
            self._here[host] -= 1
            closed = path in self.closed
            self.closed.discard(path)
            return not closed

    def links(self, host: str, path: str) -> list[str]:
        """The way in leads everywhere, every page back to it, on to the next and to the other host; one way leads ever deeper."""
        if path.startswith("/deep/"):
            return [f"/deep/{int(path.removeprefix('/deep/')) + 1}", "/"]
        if path != "/":
            [other] = set(self.hosts) - {host}
            return ["/", chr(ord(path[1]) + 1) if path < "/h" else "/a", f"http://{other}{path}#part", "mailto:ada@example.org"]
        return [*(f"/{name}" for name in "abcdefgh"), "/deep/1", "/gone", "/moved", "/picture", "http://elsewhere.example.org/"]


class Visitor(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        host = self.headers["host"]
        if not self.server.visit(host, self.path):
            self.answer(503)
        elif self.path == "/gone":
            self.answer(404)
        elif self.path == "/moved":
            self.answer(301, location="/a")
        elif self.path == "/picture":
            self.answer(200, b"<a href='/none-of-this'>", **{"content-type": "image/png"})
        else:
            links = "".join(f"<p><a href='{link}'>on</a>" for link in self.server.links(host, self.path))
            self.answer(200, f"<title>At {self.path}</title>{links}".encode(), **{"content-type": "text/html"})

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    threading.Thread(target=site.serve_forever).start()
    yield site
    site.shutdown()
    site.server_close()


async def test_each_page_is_fetched_once_politely_and_not_too_deep(own_valkey: Server, tmp_path: Path, site: Site) -> None:
    with staged("crawler", own_valkey, tmp_path) as stage:
        await stage.up()
        said = await stage.shell(f"python crawl.py 2 {' '.join(f'http://{host}/' for host in site.hosts)}")
        [stats] = json.loads(await stage.shell("stoker stats --json"))
    paths = ["/", *(f"/{name}" for name in "abcdefgh"), "/deep/1", "/deep/2", "/gone", "/moved", "/picture"]
    pages = {f"http://{host}{path}" for host in site.hosts for path in paths}
    assert set(site.visits) == pages, "no deeper, nowhere else, and not where a picture seems to lead"
    again = {url: count for url, count in site.visits.items() if count > 1}
    assert sum(again.values()) == 2, "each page once, but for the one that was closed at first"
    assert next(iter(again)).endswith("/c")
    assert site.most <= AT_A_TIME

    *lines, summary = said.splitlines()
    assert summary.endswith(f" {len(pages)} pages")
    assert {line.split()[1] for line in lines} == pages
    assert {line for line in lines if "/gone" in line} == {f"404 http://{host}/gone " for host in site.hosts}
    assert f"200 http://{site.hosts[0]}/a At /a" in lines
    assert (stats["totals"]["enqueued"], stats["totals"]["succeeded"], stats["dead"]) == (len(pages), len(pages), 0)


async def test_the_commands_of_the_page(own_valkey: Server, tmp_path: Path, site: Site) -> None:
    with staged("crawler", own_valkey, tmp_path) as stage:
        stage.places["localhost:8001"] = site.hosts[1]
        await stage.up()
        said = (await stage.run("python crawl.py")).splitlines()
    assert said[0] == f"200 http://{site.hosts[1]}/ At /"
    assert f"404 http://{site.hosts[1]}/gone " in said
    assert said[-1].endswith(" 15 pages"), "one level more, and one host"
