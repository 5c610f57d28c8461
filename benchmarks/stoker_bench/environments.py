"""One virtual environment per peer, outside the checkout, all made by the same interpreter.

Standard library only: this runs before anything is installed. `python -m stoker_bench.environments NAME` prints
the Python of an environment, making it first if its pins have changed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
CHECKOUT = BENCHMARKS.parent
PINS = BENCHMARKS / "pins"
FROM_CHECKOUT = {"stoker": CHECKOUT / "worker"}
"""Installed editable, so that the code measured is the code that is there."""


def cache() -> Path:
    """Where environments, servers' data and quick results live."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stoker-bench"


def interpreter(name: str) -> Path:
    """The Python of the environment `name`, made anew when its pins or the interpreter changed."""
    folder = cache() / "environments" / name
    python, stamp = folder / "bin" / "python", folder / ".made-from"
    wanted = _fingerprint(name)
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"setting up the environment of {name}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    base = getattr(sys, "_base_executable", None) or sys.executable
    _run([base, "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "-r", str(PINS / f"{name}.txt")])
    if name in FROM_CHECKOUT:
        _run([*pip, "-c", str(PINS / f"{name}.txt"), "-e", str(FROM_CHECKOUT[name])])
    stamp.write_text(wanted)
    return python


def _fingerprint(name: str) -> str:
    pins = (PINS / f"{name}.txt").read_bytes()
    if name in FROM_CHECKOUT:
        pins += (FROM_CHECKOUT[name] / "pyproject.toml").read_bytes()
    return f"{sys.version}\n{FROM_CHECKOUT.get(name, '')}\n{hashlib.sha256(pins).hexdigest()}\n"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)} failed; is the package registry reachable?")


if __name__ == "__main__":
    for environment in sys.argv[1:]:
        print(interpreter(environment))
