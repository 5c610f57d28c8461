"""House rules of the tests themselves."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
MODULES = sorted(path for path in TESTS.rglob("test_*.py"))


def test_no_folder_of_tests_is_a_package():
    """Imports start at the repository's root: `from tests.engine.line import Line`."""
    assert not list(TESTS.rglob("__init__.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_module_is_imported_by_another(module: Path):
    """What several need is a helper, with a name that says what it is for."""
    tree = ast.parse(module.read_text())
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert not [name for name in imported if name.rpartition(".")[2].startswith("test_")]
