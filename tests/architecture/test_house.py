"""The house rules that no linter knows."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from stoker.queue.keys import Keys
from stoker.queue.scripts import REDIS_TIME, keys_of, load
from stoker.rules.states import TaskState
from tests.task_life import MOVES

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "worker" / "src", ROOT / "operator" / "src"]
MODULES = sorted(path for source in SOURCES for path in source.rglob("*.py"))
SCRIPTS = sorted((ROOT / "worker/src/stoker/queue/lua").glob("[!_]*.lua"))
VARIANTS = {script.stem: sorted(set(re.findall(r"--\+(\w+)$", script.read_text(), re.MULTILINE))) for script in SCRIPTS}
VARIANTS["settle"].append("bury+unclaim")
LONGEST_MODULE = 350


def test_operator_is_a_folder_and_never_a_package():
    """With an __init__.py it would shadow the standard library's `operator`, and Python itself would not start."""
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_read_in_one_sitting(module: Path):
    assert len(module.read_text().splitlines()) <= LONGEST_MODULE, "is there a second idea inside?"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_states_its_contract(script: Path):
    comment = "\n".join(line for line in script.read_text().splitlines() if line.startswith("--"))
    assert "-- KEYS: " in comment
    assert "-- ARGV: " in comment
    assert "-- Returns " in comment


KEYS = {name for name, value in vars(Keys).items() if isinstance(value, property)} - {"_base"}
_BOUND = re.compile(r"\blocal (?!function)([\w, ]+)|\bfunction\b[^(\n]*\(([\w, ]*)|\bfor ([\w, ]+?) (?:in|=)")
_WORDS = re.compile(r"--.*|'(?:\\.|[^'\\])*'")
_FIELD = re.compile(r"\.[a-z_]\w*|(?<=[{,] )\w+ =(?!=)|(?<=^  )\w+ =(?!=)", re.MULTILINE)


@pytest.mark.parametrize(
    ("script", "variant"),
    [(script, variant) for script in SCRIPTS for variant in ("", *VARIANTS[script.stem])],
    ids=lambda value: getattr(value, "stem", value),
)
def test_a_script_names_the_keys_that_it_uses(script: Path, variant: str):
    """Each is an attribute of Keys, and has no other name in it or in the shared functions that it calls."""
    named = keys_of(script.read_text(), *filter(None, variant.split("+")))
    assert len(named) == len(set(named))
    assert set(named) <= KEYS
    text = load(f"{script.stem}+{variant}" if variant else script.stem).text
    code = _WORDS.sub("", text.partition(" = unpack(KEYS)\n")[2])
    bound = {name for found in _BOUND.findall(code) for name in re.findall(r"\w+", " ".join(found))}
    assert not bound & KEYS, "a variable has the name of a key"
    assert set(re.findall(r"\w+", _FIELD.sub("", code))) & KEYS == set(named)


def test_no_script_counts_its_keys():
    lua = {path.name: path.read_text() for path in (ROOT / "worker/src/stoker/queue/lua").glob("*.lua")}
    assert not [name for name, text in lua.items() if re.search(r"\bKEYS\b(?!:)", text)]


def test_scripts_read_the_clock_in_one_place():
    """The testing kit puts its own clock there, and must not miss another."""
    lua = [path.read_text() for path in (ROOT / "worker/src/stoker/queue/lua").glob("*.lua")]
    assert sum(text.count(REDIS_TIME) for text in lua) == 1
    assert sum(text.count("'TIME'") for text in lua) == 1


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_called(script: Path):
    callers = [path.read_text() for path in (ROOT / "worker/src/stoker/queue").rglob("*.py")]
    for name in (script.stem, *(f"{script.stem}+{variant}" for variant in VARIANTS[script.stem])):
        assert any(f'"{name}"' in text for text in callers)


def test_the_diagram_draws_the_moves():
    diagram = (ROOT / "docs/architecture/states.md").read_text()
    drawn = {(TaskState(a), TaskState(b)) for a, b in re.findall(r"^ +(\w+) --> (\w+):", diagram, re.MULTILINE)}
    assert drawn == {(state, after) for state, moves in MOVES.items() for after in moves}


def test_the_page_lists_the_layers_that_are_checked():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["name"].startswith("The worker distribution"))
    page = (ROOT / "docs/architecture/README.md").read_text()
    block = page[page.index("import-linter layers") : page.index("## How a task flows")]
    listed = [re.split(r"\s{2,}", line.strip())[0] for line in block.splitlines() if line.startswith("    ")]
    assert listed == [layer.replace("stoker.", "") for layer in layers]


def _name(module: Path) -> str:
    source = next(source for source in SOURCES if module.is_relative_to(source))
    return ".".join(module.relative_to(source).with_suffix("").parts).removesuffix(".__init__")


def _defined(tree: ast.Module) -> set[str]:
    """The names that a module makes itself."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    made = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    return made | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


FRONT_DOORS = {"stoker", "stoker.testing"}
"""The two packages that people import from: they alone pass on names of others."""


def test_an_import_says_where_a_thing_lives():
    """A name is imported from the module that defines it: a re-export hides an arrow from the import rules."""
    trees = {_name(path): ast.parse(path.read_text()) for path in MODULES}
    defined = {name: _defined(tree) for name, tree in trees.items()}
    borrowed = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {alias.name} does not live in {node.module}"
        for path in [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module in trees and node.module not in FRONT_DOORS
        for alias in node.names
        if alias.name not in defined[node.module] and f"{node.module}.{alias.name}" not in trees
    ]
    assert not borrowed


def test_every_relative_link_of_the_docs_leads_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert not broken


def test_nothing_generated_is_committed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not [path for path in tracked if path.endswith((".pyc", "uv.lock", ".rdb")) or "node_modules/" in path]
