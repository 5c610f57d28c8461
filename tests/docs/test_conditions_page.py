"""The page on conditions has every condition and every reason, once, and none that does not exist."""

import re
from typing import get_args

from stoker_operator.report.condition import Type
from stoker_operator.state.problem import STALLED, Reason
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/how-to/taskqueue-conditions.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \|.*$", re.MULTILINE)


def rows(*, reasons: bool) -> list[str]:
    """The first cells of the tables of reasons, or of those of conditions."""
    chapters = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return [name for chapter in chapters if chapter.startswith("Reason") is reasons for name in ROW.findall(chapter)]


def test_every_reason_is_explained_once():
    assert sorted(rows(reasons=True)) == sorted(Reason)


def test_every_condition_is_explained_once():
    assert sorted(rows(reasons=False)) == sorted(get_args(Type))


def test_the_reasons_of_stalled_are_named():
    line = next(line for line in PAGE.splitlines() if line.startswith("| `Stalled`"))
    assert set(re.findall(r"`(\w+)`", line)) - {"Stalled"} == STALLED


def test_every_reason_says_what_to_do_where_something_is_wrong():
    lines = [line.group() for line in ROW.finditer(PAGE) if "| False |" in line.group()]
    assert lines
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == 4, line
        assert cells[3], line
