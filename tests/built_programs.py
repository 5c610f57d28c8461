"""Programs that tests run and that `tests/cluster/prepare` builds, or the machine has."""

import os
import shutil
from pathlib import Path


def binary(name: str) -> str:
    """A program of the cluster build, or one on PATH. Raises FileNotFoundError: a test without it fails, it is not skipped."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = Path(os.environ.get("CLUSTER_CACHE") or cache_home / "stoker-cluster") / "bin"
    if found := shutil.which(name, path=str(built)) or shutil.which(name):
        return found
    raise FileNotFoundError(f"there is no {name}, neither in {built} nor on PATH: `tests/cluster/node/node build` makes it")
