"""The map of the code names files that exist."""

import re

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/architecture/README.md").read_text()
PLACES = (
    ROOT,
    ROOT / "worker/src/stoker",
    ROOT / "worker/src",
    ROOT / "worker/src/stoker/queue/lua",
    ROOT / "operator/src/stoker_operator",
)
NAMED = sorted(set(re.findall(r"`([\w./-]+(?:\.py|\.lua|\.yaml|/))`", PAGE)))


@pytest.mark.parametrize("path", NAMED)
def test_the_page_names_files_that_exist(path: str):
    assert any((place / path).exists() for place in PLACES)
