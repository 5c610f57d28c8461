"""What users install: the whole package, and the mark by which type checkers believe its types."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from tests.typing.checkers import ROOT

SOURCE = ROOT / "worker" / "src"


def test_an_installed_wheel_is_typed_and_complete(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT / "worker", check=True, capture_output=True)
    [wheel] = tmp_path.glob("stoker-*.whl")
    with ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert "stoker/py.typed" in inside
    files = (path.relative_to(SOURCE) for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert inside == {path.as_posix() for path in files}
