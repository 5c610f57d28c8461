"""No page is lost, and no link leads nowhere."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.docs.pages import ROOT

PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")})


def tokens(page: Path) -> list[Token]:
    return [inner for token in MarkdownIt().enable("table").parse(page.read_text()) for inner in (token, *(token.children or ()))]


def links(page: Path) -> list[str]:
    """Where its links within the checkout lead."""
    targets = [str(token.attrGet("href")) for token in tokens(page) if token.type == "link_open"]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Its headings, as they are linked to."""
    found, after = set(), False
    for token in tokens(page):
        if after and token.type == "inline":
            found.add(re.sub(r"[^\w\- ]", "", token.content.lower()).replace(" ", "-"))
        after = token.type == "heading_open"
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors(target), (
            f"{link}: there is no such heading, only {', '.join(sorted(anchors(target)))}"
        )


def test_every_page_is_found_from_the_index():
    reached, ahead = set(), [ROOT / "docs/README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md" and page.is_relative_to(ROOT / "docs"):
            reached.add(page)
            ahead += [(page.parent / link.partition("#")[0]).resolve() for link in links(page)] if page.name == "README.md" else []
    pages = set(ROOT.glob("docs/**/*.md"))
    assert not pages - reached, f"no index leads to {sorted(str(page.relative_to(ROOT)) for page in pages - reached)}"
