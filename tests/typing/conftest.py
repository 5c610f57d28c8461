"""Everything that is to be checked, in one folder, and what the checkers say of it."""

import fcntl
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from tests.typing.checkers import Complaint, complaints
from tests.typing.typed_pages import PAGES, programs

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Complaint]]:
    """By each checker, of the files of this folder and of the pages. The processes of one test run ask the checkers once."""
    scratch = tmp_path_factory.getbasetemp()
    run = scratch.parent if "PYTEST_XDIST_WORKER" in os.environ else scratch
    with (run / "checkers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answers = run / "checkers.json"
        if not answers.exists():
            answers.write_bytes(msgspec.json.encode(complaints(_checked(tmp_path_factory.mktemp("checked").resolve()))))
    return msgspec.json.decode(answers.read_bytes(), type=dict[str, list[Complaint]])


def _checked(folder: Path) -> Path:
    for name in ("accepted", "refused"):
        shutil.copytree(HERE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for program in (each for page in PAGES for each in programs(page)):
        (folder / program.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / program.path).write_text(program.text)
    return folder
