"""docs/reference/wire-format.md names every field that is written, and no other."""

import re

import msgspec

from stoker.queue.keys import LAYOUT
from stoker.rules.inbox_entry import FIELDS
from stoker.rules.message import Message, Success
from stoker.rules.settle import Failure
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/reference/wire-format.md").read_text()


def documented(heading: str) -> dict[str, bool]:
    """The fields in the table below a heading, and whether each may be left out."""
    table = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [row.strip("|").split("|") for row in re.findall(r"^\| `.*\|$", table, re.MULTILINE)]
    return {row[0].strip(" `"): row[-1].strip() != "never" for row in rows}


def test_the_envelope():
    assert documented("The envelope") == {field.name: not field.required for field in msgspec.structs.fields(Message)}


def test_an_entry_of_the_inbox():
    assert tuple(documented("An entry of the inbox")) == FIELDS


def test_results_and_failures():
    told = PAGE.partition("\n## Results and failures\n")[2].partition("\n## ")[0]
    for kind in (Success, Failure):
        assert {field for field in kind.__struct_fields__ if f"`{field}`" in told} == set(kind.__struct_fields__)


def test_the_layout_has_the_number_that_the_page_says():
    assert f"laid out, {LAYOUT} since the first version" in PAGE
