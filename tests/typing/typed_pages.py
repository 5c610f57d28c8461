"""A page of documentation as a program for type checkers: what it defines, and what it runs within one async function.

Files that it shows are modules beside that program. Tests are not checked: who writes these without types may.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.docs import snippets
from tests.docs.pages import ROOT, Block, blocks, pages

PAGES = [str(page.relative_to(ROOT)) for page in pages() if any(block.language == "python" for block in blocks(page))]
# A line may only show a value; a name may stand for another thing farther down; the parameters of a lambda have no types.
_HEAD = """# mypy: allow-redefinition
# pyright: reportUnusedExpression=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
"""
_TESTS = re.compile(r"(.*/)?(test_\w+|conftest)\.py")


class Program(NamedTuple):
    """A file of it. `lines[n]` is where on the page line n stands."""

    path: Path
    text: str
    lines: dict[int, int]

    def is_to_raise(self, line: int) -> bool:
        """Whether the page shows a mistake there: a checker may see it too."""
        return "# raises " in self.text.splitlines()[line - 1]


def programs(page: str) -> list[Program]:
    """All of its Python: the page's own module first."""
    shown = [block for block in blocks(ROOT / page) if block.language == "python" and not block.skipped and not block.read]
    files = {name: block for block in shown if (name := snippets.file_of(block)) and not _TESTS.fullmatch(name)}
    own = [block for block in shown if not snippets.file_of(block)]
    defined, run = [each for each in own if snippets.defines(each)], [each for each in own if not snippets.defines(each)]
    lines = [(0, line) for line in _HEAD.splitlines()]
    lines += [*_lines(defined), (0, "async def page() -> None:"), (0, "    ..."), *_lines(run, "    ")]
    return [
        _program(page, "page.py", lines, files),
        *(_program(page, name, _lines([block]), files) for name, block in files.items()),
    ]


def _program(page: str, name: str, lines: Iterable[tuple[int, str]], files: Iterable[str]) -> Program:
    folder = re.sub(r"\W", "_", page.removesuffix(".md").lower())
    numbers, texts = zip(*lines, strict=True)
    text = "\n".join(texts) + "\n"
    for module in (each.removesuffix(".py").replace("/", ".") for each in files):
        text = re.sub(rf"^( *)from {re.escape(module)} import", rf"\1from pages.{folder}.{module} import", text, flags=re.MULTILINE)
    return Program(Path("pages", folder, name), text, dict(enumerate(numbers, 1)))


def _lines(found: Iterable[Block], indent: str = "") -> list[tuple[int, str]]:
    return [(at, indent + line) for block in found for at, line in enumerate(block.text.splitlines(), block.line)]
