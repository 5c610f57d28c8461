"""What the figures were made on: the machine, the versions, the code, the command."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stoker_bench import server
from stoker_bench.environments import CHECKOUT


def machine(servers: Mapping[str, Path]) -> dict[str, Any]:
    """Facts that a reader needs to judge a figure, or to repeat it."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": "benchmarks/run " + " ".join(sys.argv[1:]),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "servers": {name: server.version(binary) for name, binary in servers.items()},
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "worker/src", "benchmarks/stoker_bench", "benchmarks/pins")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
