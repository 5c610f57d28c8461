"""How often this process came to be a copy of another one by a fork. Asked twice, it tells whether the code between has forked.

Asking for the process' number would do as well, but that is a call of the kernel, for every task two of them.
"""

import os

_generation = 0


def generation() -> int:
    """The same number for as long as this is the same process."""
    return _generation


def _born() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_born)
