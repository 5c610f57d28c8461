"""Every example is in the index, is tried, and is small."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.examples.stage import ROOT
from tests.taskqueue_schema import schema, strict

EXAMPLES = sorted(page.parent for page in (ROOT / "examples").glob("*/README.md"))
MOST_LINES = 120
"""Of Python, blank ones not counted."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_found_tried_and_small(example: Path) -> None:
    assert f"({example.name}/README.md)" in (ROOT / "examples/README.md").read_text()
    assert Path(__file__).with_name(f"test_{example.name}.py").exists()
    jsonschema.validate(yaml.safe_load((example / "taskqueue.yaml").read_text()), strict(schema()))
    lines = [line for path in example.rglob("*.py") for line in path.read_text().splitlines()]
    assert sum(bool(line.strip()) for line in lines) <= MOST_LINES
