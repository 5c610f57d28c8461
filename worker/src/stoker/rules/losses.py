"""Losses: what a task that was lost with its worker may do next. The scripts say the same: `_prelude.lua`, `_solitude.lua`."""

SUSPECT_FROM = 2
"""Losses from which a task is a suspect. One is no evidence: its worker may have ended for any reason."""


def is_suspect(losses: int) -> bool:
    """Whether it may be what kills its workers: no worker holds two such tasks."""
    return losses >= SUSPECT_FROM


def on_last_life(losses: int, max_lost: int) -> bool:
    """Whether its next loss would bury it: it runs with nothing beside it, so that no other task can be the cause."""
    return losses >= max(1, max_lost - 1)
