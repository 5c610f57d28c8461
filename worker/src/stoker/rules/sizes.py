"""Sizes of memory as people and Kubernetes write them: 512MiB, 512Mi, 1.5GB."""

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?")
_STEPS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Bytes of "512MiB", "512Mi", "500MB" or "1048576". Raises ValueError for other text."""
    match = _SIZE.fullmatch(text.strip())
    if not match or (match[3] and not match[2]):
        raise ValueError(f"{text!r} is not a size: write it like 512MiB, 512Mi or 1.5GB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _STEPS[match[2]])
