"""The pages of documentation, and the blocks of code on them.

What a block is for follows from its language (see CONTRIBUTING.md); comments that no reader sees say the rest:

    <!-- test: skip because ... -->      the next block is not tried; the reasons are counted
    <!-- test: read because ... -->      the next block is Python that cannot run here: it must be whole
    <!-- test: python                    a block that is not shown, in any language: what the page needs and nobody has to read
    ...
    -->
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("", "docs/**/", "charts/stoker/", "benchmarks/", "examples/**/", "worker/", "operator/")
INDENTED = "indented"
_NOTE = re.compile(r"<!-- test: (?P<note>.*?)\s*-->", re.DOTALL)
_REASON = re.compile(r"skip because (?P<skipped>\S.*)|read because (?P<read>\S.*)", re.DOTALL)


class Block(NamedTuple):
    """Some code on a page. `line` is where its first line stands, counted from 1; `language` is "indented" without a fence.

    `skipped` says why it is not tried, `read` why it is only read.
    """

    page: Path
    line: int
    language: str
    text: str
    skipped: str = ""
    read: str = ""

    @property
    def where(self) -> str:
        """As an editor understands it."""
        page = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name
        return f"{page}:{self.line}"


def pages() -> list[Path]:
    """Every page that has code, except those of the history."""
    found = {path for folder in FOLDERS for path in ROOT.glob(f"{folder}*.md")} - {ROOT / "CHANGELOG.md"}
    return sorted(path for path in found if blocks(path))


def blocks(page: Path) -> list[Block]:
    """The page's blocks from top to bottom, unseen ones included."""
    return list(_blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    reasons: dict[str, str] = {}
    for token in MarkdownIt().parse(page.read_text()):
        match token.type:
            case "html_block" if note := _NOTE.match(token.content):
                words = note["note"]
                if found := _REASON.fullmatch(words):
                    reasons = {kind: " ".join(reason.split()) for kind, reason in found.groupdict(default="").items()}
                else:
                    language, newline, text = words.partition("\n")
                    if not newline:
                        raise ValueError(f"{page}:{_line(token)}: what is {token.content.strip()!r}?")
                    yield Block(page, _line(token) + 1, language.strip(), text + "\n")
            case "fence":
                yield Block(page, _line(token) + 1, (token.info.split() or [""])[0], token.content, **reasons)
                reasons = {}
            case "code_block":
                yield Block(page, _line(token), INDENTED, token.content, **reasons)
                reasons = {}


def _line(token: Token) -> int:
    assert token.map
    return token.map[0] + 1
