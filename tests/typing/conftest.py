"""Everything that is to be checked, in one folder, and what the checkers say of it."""

import shutil
import sys
from pathlib import Path

import pytest
from checkers import ROOT, Complaint, complaints

HERE = Path(__file__).parent
sys.path.append(str(ROOT / "tests" / "docs"))  # how a page is read is known there


@pytest.fixture(scope="session")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Complaint]]:
    """By each checker, of the files of this folder and of the pages."""
    from typed_pages import PAGES, programs

    folder = tmp_path_factory.mktemp("checked").resolve()
    for name in ("accepted", "refused"):
        shutil.copytree(HERE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for program in (each for page in PAGES for each in programs(page)):
        (folder / program.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / program.path).write_text(program.text)
    return complaints(folder)
