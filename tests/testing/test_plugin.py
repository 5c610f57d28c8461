"""The pytest plugin: fixtures for whoever wants them, and nothing else for anybody."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = """
from stoker import Stoker

app = Stoker("shop", redis="redis://production.example.org")


@app.task()
async def ship(order: int) -> int:
    return order
"""
CONFTEST = """
import pytest
from shop import app


@pytest.fixture
async def kit(stoker_kit):
    async with stoker_kit(app) as kit:
        yield kit
"""
TEST = """
import pytest
from shop import ship


@pytest.mark.parametrize("number", range(4))
async def test_shipping(kit, number):
    assert kit.enqueued() == []
    handle = await ship.options(delay=60).enqueue(number)
    kit.clock.advance(60)
    await kit.run_until_idle()
    assert kit.assert_succeeded(handle) == number
"""


PASSED = "4 passed"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose environment has Stoker with the entry points that worker/pyproject.toml declares."""
    declared = tomllib.loads((ROOT / "worker/pyproject.toml").read_text())["project"]["entry-points"]
    sections = [[f"[{group}]", *(f"{name} = {value}" for name, value in points.items())] for group, points in declared.items()]
    installed = tmp_path / "site" / "stoker-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: stoker\nVersion: 0\n")
    (installed / "entry_points.txt").write_text("\n".join(line for section in sections for line in section))
    tests = tmp_path / "project"
    tests.mkdir()
    (tests / "shop.py").write_text(APP)
    (tests / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    return tests


def pytest_in(project: Path, *arguments: str) -> str:
    """What pytest says, in a process of its own. It must pass."""
    path = [str(project.parent / "site"), str(ROOT / "worker/src"), str(project)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def shop(project: Path) -> Path:
    """The project with tests that use the kit."""
    (project / "conftest.py").write_text(CONFTEST)
    (project / "test_shop.py").write_text(TEST)
    return project


def test_its_fixtures_are_there_without_configuration(shop: Path) -> None:
    assert PASSED in pytest_in(shop)


def test_they_work_with_anyios_plugin_as_well(shop: Path) -> None:
    (shop / "conftest.py").write_text(CONFTEST + "\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n")
    (shop / "test_shop.py").write_text(TEST.replace("import pytest\n", "import pytest\npytestmark = pytest.mark.anyio\n"))
    (shop / "pytest.ini").write_text("[pytest]\n")
    assert PASSED in pytest_in(shop, "-p", "no:asyncio", "-p", "anyio")


def test_every_process_of_xdist_has_a_server_and_one_loop_for_the_whole_session_does_no_harm(shop: Path) -> None:
    scopes = ("asyncio_default_fixture_loop_scope=session", "asyncio_default_test_loop_scope=session")
    assert PASSED in pytest_in(shop, "-n", "2", "-o", scopes[0], "-o", scopes[1])


def test_a_project_that_does_not_use_it_pays_for_nothing(project: Path) -> None:
    (project / "test_else.py").write_text(
        """
import sys

def test_nothing_of_stoker_is_imported(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("stoker")
    assert not [name for name in sys.modules if name.partition(".")[0] in ("stoker", "msgspec")]
"""
    )
    assert "1 passed" in pytest_in(project)


def test_it_can_be_left_out_by_its_name(project: Path) -> None:
    (project / "test_else.py").write_text("def test_it(pytestconfig): assert not pytestconfig.pluginmanager.has_plugin('stoker')\n")
    assert "1 passed" in pytest_in(project, "-p", "no:stoker")
