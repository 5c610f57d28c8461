"""Losses: what a task that was lost with its worker may do next, and why workers end.

The scripts say the same of the former: `_prelude.lua`, `_solitude.lua`.
"""

from enum import StrEnum

SUSPECT_FROM = 2
"""Losses from which a task is a suspect. One is no evidence: its worker may have ended for any reason."""


def is_suspect(losses: int) -> bool:
    """Whether it may be what kills its workers: no worker holds two such tasks."""
    return losses >= SUSPECT_FROM


def on_last_life(losses: int, max_lost: int) -> bool:
    """Whether its next loss would bury it: it runs with nothing beside it, so that no other task can be the cause."""
    return losses >= max(1, max_lost - 1)


class LossCause(StrEnum):
    """Why a worker ended, where that is known: the operator reads it from the pod. The words are stored with the loss."""

    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    EVICTED_BY_NODE = "evicted_by_node"
    EVICTED_BY_API = "evicted_by_api"
    PREEMPTED = "preempted"
    NODE_TAINTED = "node_tainted"
    NODE_GONE = "node_gone"
    DELETED = "deleted"

    @property
    def innocent(self) -> bool:
        """Whether no task can be the reason, so that the loss does not count. Who is evicted by a node may have used it up."""
        return self not in _MAY_BE_THE_TASK

    @property
    def text(self) -> str:
        """The cause in words."""
        return _TEXTS[self]


_BY_WORD = {cause.value: cause for cause in LossCause}
_MAY_BE_THE_TASK = frozenset({LossCause.OUT_OF_MEMORY, LossCause.CRASHED, LossCause.EVICTED_BY_NODE})
_TEXTS = {
    LossCause.OUT_OF_MEMORY: "killed, out of memory",
    LossCause.CRASHED: "crashed",
    LossCause.EVICTED_BY_NODE: "evicted by its node",
    LossCause.EVICTED_BY_API: "evicted through the API",
    LossCause.PREEMPTED: "preempted by another pod",
    LossCause.NODE_TAINTED: "its node was tainted",
    LossCause.NODE_GONE: "its node is gone",
    LossCause.DELETED: "deleted: a scale-in, a rollout, or by hand",
}


def known_cause(word: str | None) -> LossCause | None:
    """The cause that a stored word names; None for one of another version."""
    return _BY_WORD.get(word or "")
