"""What type checkers make of the public API: what is right passes in their strictest mode, what is wrong is seen in its line.

A line of `refused/` that must be seen says so: `# refused: ` and the codes of mypy and of pyright.
"""

import re
from pathlib import Path

import pytest

from tests.typing.checkers import CHECKERS, Complaint
from tests.typing.typed_pages import PAGES, programs

HERE = Path(__file__).parent
ACCEPTED = sorted(path.name for path in (HERE / "accepted").glob("*.py"))
REFUSED = sorted(path.name for path in (HERE / "refused").glob("*.py"))
_MARK = re.compile(r"# refused: (?P<codes>.+)$")
_FOLLOWS = ("reportUnknown", "reportUntyped", "reportUnused")
"""What pyright says besides, of a line where something else is wrong."""

pytestmark = pytest.mark.timeout(300)  # where nothing is in their caches yet, they read the libraries too

Said = dict[str, list[Complaint]]


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_right_passes(said: Said, checker: str, name: str) -> None:
    assert [each for each in said[checker] if each.path == f"accepted/{name}"] == []


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_wrong_is_seen_in_its_line(said: Said, checker: str, name: str) -> None:
    found = {(each.line, each.code) for each in said[checker] if each.path == f"refused/{name}"}
    expected = {(line, code) for line, codes in marks(HERE / "refused" / name).items() for code in codes if is_of(checker, code)}
    marked = {line for line, _ in expected}
    assert {each for each in found if each in expected or not (each[0] in marked and each[1].startswith(_FOLLOWS))} == expected


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_page_is_typed(said: Said, checker: str, page: str) -> None:
    """Who copies from it into a program that is checked strictly has nothing to mend."""
    found = {str(program.path): program for program in programs(page)}
    of_page = [each for each in said[checker] if each.path in found and not found[each.path].is_to_raise(each.line)]
    assert not of_page, "\n".join(f"{page}:{found[each.path].lines[each.line]}: {each.words} [{each.code}]" for each in of_page)


def test_every_mark_is_for_both() -> None:
    for name in REFUSED:
        for line, codes in marks(HERE / "refused" / name).items():
            assert {is_of("mypy", code) for code in codes} == {True, False}, f"refused/{name}:{line}"


def marks(path: Path) -> dict[int, list[str]]:
    lines = enumerate(path.read_text().splitlines(), 1)
    return {number: found["codes"].split() for number, line in lines if (found := _MARK.search(line))}


def is_of(checker: str, code: str) -> bool:
    return code.startswith("report") is (checker == "pyright")
