"""Everything that is to be checked, in one folder, and what the checkers say of it."""

import shutil
from pathlib import Path

import pytest

from tests.typing.checkers import Complaint, complaints
from tests.typing.typed_pages import PAGES, programs

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Complaint]]:
    """By each checker, of the files of this folder and of the pages."""
    folder = tmp_path_factory.mktemp("checked").resolve()
    for name in ("accepted", "refused"):
        shutil.copytree(HERE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for program in (each for page in PAGES for each in programs(page)):
        (folder / program.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / program.path).write_text(program.text)
    return complaints(folder)
