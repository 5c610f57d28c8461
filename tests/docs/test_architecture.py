"""The pages on the architecture name files that exist."""

import re

import pytest

from tests.docs.pages import ROOT

PAGES = "\n".join(page.read_text() for page in (ROOT / "docs/architecture").glob("*.md"))
PLACES = (
    ROOT,
    ROOT / "worker/src/stoker",
    ROOT / "worker/src",
    ROOT / "worker/src/stoker/queue/lua",
    ROOT / "worker/src/stoker/redis",
    ROOT / "operator/src/stoker_operator",
    ROOT / "tests/proof",
)
NAMED = sorted(set(re.findall(r"`([\w./-]+(?:\.py|\.lua|\.yaml|/))`", PAGES)))


@pytest.mark.parametrize("path", NAMED)
def test_they_name_files_that_exist(path: str):
    assert any((place / path).exists() for place in PLACES)
