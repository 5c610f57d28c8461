"""`stoker dead`: list, show, retry, remove."""

import asyncio
import json
from typing import Any

import pytest

from tests.dead_tasks import bury_next


@pytest.fixture
def three_dead(stoker: Any, redis_url: str) -> list[str]:
    """Tasks d0, d1, d2 of the queue "emails" are dead, and "alive" is ready."""
    for task_id in ("d0", "d1", "d2", "alive"):
        stoker("enqueue", "send_email", "--id", task_id, "-q", "emails")
    return asyncio.run(bury_next(redis_url, "emails", "no such address", count=3))


@pytest.mark.usefixtures("three_dead")
class TestDead:
    def test_ls_tells_why(self, stoker: Any) -> None:
        table = stoker("dead", "ls", "-q", "emails").out
        assert len(table.splitlines()) == 4
        assert "ValueError: no such address" in table
        letters = json.loads(stoker("dead", "ls", "-q", "emails", "--json").out)
        assert {letter["id"] for letter in letters} == {"d0", "d1", "d2"}

    def test_show(self, stoker: Any) -> None:
        shown = stoker("dead", "show", "d1").out
        assert "no such address" in shown
        assert "Traceback: here" in shown
        assert json.loads(stoker("dead", "show", "d1", "--json").out)["failure"]["type"] == "ValueError"
        alive = stoker("dead", "show", "alive")
        assert alive.code == 3
        assert "it is ready" in alive.err

    def test_retry_by_id(self, stoker: Any) -> None:
        ended = stoker("dead", "retry", "d0", "d2", "--json")
        assert (ended.code, json.loads(ended.out)) == (0, {"retried": 2, "missing": []})
        assert counts(stoker) == (3, 1)

    def test_retry_all(self, stoker: Any) -> None:
        assert stoker("dead", "retry", "--all", "-q", "emails").out == "retried 3\n"
        assert counts(stoker) == (4, 0)

    def test_retry_of_one_that_is_not_dead_does_the_others(self, stoker: Any) -> None:
        ended = stoker("dead", "retry", "d0", "alive", "nope", "--json")
        assert ended.code == 3
        assert json.loads(ended.out) == {"retried": 1, "missing": ["alive", "nope"]}
        assert ended.err == "error: not in the dead letters: alive, nope\n"
        assert counts(stoker) == (2, 2)

    def test_rm_by_id(self, stoker: Any) -> None:
        assert stoker("dead", "rm", "d1", "-q", "emails").out == "removed 1\n"
        assert stoker("task", "d1").code == 3
        assert counts(stoker) == (1, 2)

    def test_rm_all_asks_first(self, stoker: Any) -> None:
        refused = stoker("dead", "rm", "--all", "-q", "emails", stdin="n\n")
        assert refused.code == 1
        assert counts(stoker) == (1, 3)
        assert stoker("dead", "rm", "--all", "-q", "emails", stdin="y\n").code == 0
        assert counts(stoker) == (1, 0)

    def test_rm_all_for_scripts(self, stoker: Any) -> None:
        ended = stoker("dead", "rm", "--all", "--yes", "-q", "emails", "--json")
        assert (ended.code, json.loads(ended.out)) == (0, {"removed": 3, "missing": []})
        assert counts(stoker) == (1, 0)


@pytest.mark.parametrize("arguments", [["retry"], ["rm"], ["retry", "x", "--all", "-q", "emails"], ["rm", "--all"]])
def test_it_must_be_clear_which_are_meant(stoker: Any, arguments: list[str]) -> None:
    ended = stoker("dead", *arguments)
    assert ended.code == 2
    assert "--all" in ended.line


def counts(stoker: Any) -> tuple[int, int]:
    """Ready and dead."""
    [stats] = json.loads(stoker("stats", "emails", "--json").out)
    return stats["ready"], stats["dead"]
