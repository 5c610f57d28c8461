"""The reference of TaskQueues is what the schema says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_reference_is_generated_from_the_schema() -> None:
    subprocess.run([sys.executable, str(ROOT / "charts/reference"), "--check"], check=True)
