"""The numbers on the page on nodes are those of the code."""

from math import ceil

from stoker.manifest.worker_pods import Worker
from stoker_operator.reconcile.resources import GRACE_MARGIN, SAFE_TO_EVICT, TMP_SIZE
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/how-to/nodes.md").read_text()


def test_the_numbers_are_right():
    assert f"{ceil(Worker().drain_timeout) + GRACE_MARGIN} s by default" in PAGE
    assert f"`drainTimeout` plus {GRACE_MARGIN} s" in PAGE
    assert 9 * 60 + 45 + GRACE_MARGIN == 600  # "at most 9m45s"
    assert f"limit of {TMP_SIZE}" in PAGE
    assert f"`{SAFE_TO_EVICT}: tmp`" in PAGE
