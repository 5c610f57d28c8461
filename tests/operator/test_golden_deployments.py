"""The Deployment of each sample, byte for byte: another pod template rolls all workers when the operator is upgraded."""

from pathlib import Path

import pytest

from tests.operator.golden import FILES, ROOT, fingerprint, rendered

MADE = [pytest.param(path, text, id=path.stem) for path, text in rendered()]


@pytest.mark.parametrize(("path", "text"), MADE)
def test_an_upgrade_of_the_operator_rolls_no_worker(path: Path, text: str):
    assert path.read_text() == text, "is that worth a restart of all workers? Then: .venv/bin/python tests/operator/golden.py"


def test_every_sample_has_one():
    assert {path for path, _ in rendered()} == set(FILES.glob("*.yaml"))


def test_a_change_of_rendering_is_named_in_the_changelog():
    """Say there what changed, and that an upgrade rolls the workers."""
    assert f"rendering {fingerprint()}" in (ROOT / "CHANGELOG.md").read_text()
