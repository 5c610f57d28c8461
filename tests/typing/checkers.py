"""mypy and pyright, each run once over everything in a folder, in its strictest mode.

pyright comes as basedpyright, whose wheel brings all that it needs; in the mode `strict` it has pyright's own rules.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CHECKERS = ("mypy", "pyright")
_MYPY = re.compile(r"(?P<path>[^:]+):(?P<line>\d+): error: (?P<words>.*?)  \[(?P<code>[\w-]+)\]")
_CONFIGURATION = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "pythonPlatform": "Linux"}


class Complaint(NamedTuple):
    """What a checker says of a line. `path` is relative to the folder."""

    path: str
    line: int
    code: str
    words: str


def complaints(folder: Path) -> dict[str, list[Complaint]]:
    """Of both, which run side by side."""
    (folder / "pyrightconfig.json").write_text(json.dumps(_CONFIGURATION))
    python = ("--pythonpath", sys.executable)
    mypy = _started(folder, "mypy", "--strict", "--config-file=", "--python-version=3.11", "--explicit-package-bases", *_QUIET, ".")
    pyright = _started(folder, "basedpyright", "--outputjson", *python, ".")
    return {"mypy": _mypys(*mypy.communicate()), "pyright": _pyrights(folder, *pyright.communicate())}


_QUIET = ("--no-error-summary", "--hide-error-context", "--no-pretty", f"--cache-dir={ROOT / '.mypy_cache' / 'typing'}")


def _started(folder: Path, module: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"MYPYPATH", "PYTHONPATH"}}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _mypys(said: str, trouble: str) -> list[Complaint]:
    lines = [line for line in said.splitlines() if ": note: " not in line]
    found = [_MYPY.fullmatch(line) for line in lines]
    assert all(found), f"mypy could not check: {said}{trouble}"
    assert not trouble, trouble
    return [Complaint(each["path"], int(each["line"]), each["code"], each["words"]) for each in found if each]


def _pyrights(folder: Path, said: str, trouble: str) -> list[Complaint]:
    assert said.lstrip().startswith("{"), f"pyright could not check: {said}{trouble}"
    answer = json.loads(said)
    assert answer["summary"]["filesAnalyzed"] > 0, trouble
    return [
        Complaint(
            str(Path(each["file"]).relative_to(folder)),
            each["range"]["start"]["line"] + 1,
            each.get("rule", "syntax"),
            each["message"],
        )
        for each in answer["generalDiagnostics"]
    ]
