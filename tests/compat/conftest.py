"""Servers whose clock goes on where a record ends."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "proof"))  # `movable`, the held clock
