"""The documentation does what it says: every block of code on every page is run, or held against what it speaks of.

How a block is tried follows from its language; CONTRIBUTING.md tells it to those who write pages.
"""

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, pages
from tests.docs.reader import Reader
from tests.docs.sandbox import Sandbox
from tests.redis_servers import Server

PAGES = pages()
MOST_SKIPPED = 1
"""Blocks that nothing can try, on all pages together."""


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
async def test_a_page_does_what_it_says(page: Path, tmp_path: Path, own_valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"STOKER_REDIS_URL": own_valkey.url, "STOKER_NAMESPACE": "stoker"}.items():
        monkeypatch.setenv(name, value)
    with Sandbox(tmp_path, own_valkey) as sandbox:
        await Reader(sandbox, [block for block in blocks(page) if not block.skipped]).read()


def test_what_is_not_tried_says_why():
    skipped = [block for page in PAGES for block in blocks(page) if block.skipped]
    assert len(skipped) <= MOST_SKIPPED, "\n".join(f"{block.where}: {block.skipped}" for block in skipped)
