"""`stoker dead`: list, show, redrive, delete."""

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
    def test_list_tells_why(self, stoker: Any) -> None:
        table = stoker("dead", "list", "-q", "emails").out
        assert len(table.splitlines()) == 4
        assert "ValueError: no such address" in table
        letters = json.loads(stoker("dead", "list", "-q", "emails", "--json").out)
        assert {letter["id"] for letter in letters} == {"d0", "d1", "d2"}

    def test_show(self, stoker: Any) -> None:
        shown = stoker("dead", "show", "d1").out
        assert "no such address" in shown
        assert "Traceback: here" in shown
        assert json.loads(stoker("dead", "show", "d1", "--json").out)["failure"]["type"] == "ValueError"
        alive = stoker("dead", "show", "alive")
        assert alive.code == 3
        assert "it is ready" in alive.err

    def test_redrive_by_id(self, stoker: Any) -> None:
        ended = stoker("dead", "redrive", "d0", "d2", "--json")
        assert (ended.code, json.loads(ended.out)) == (0, {"redriven": 2, "missing": []})
        assert counts(stoker) == (3, 1)

    def test_redrive_all(self, stoker: Any) -> None:
        assert stoker("dead", "redrive", "--all", "-q", "emails").out == "redriven 3\n"
        assert counts(stoker) == (4, 0)

    def test_redrive_by_name_and_failure(self, stoker: Any) -> None:
        assert stoker("dead", "redrive", "-q", "emails", "--task", "other").out == "redriven 0\n"
        assert stoker("dead", "redrive", "-q", "emails", "--task", "send_email", "--limit", "1").out == "redriven 1\n"
        assert json.loads(stoker("dead", "redrive", "-q", "emails", "--failure", "ValueError", "--json").out)["redriven"] == 2
        assert counts(stoker) == (4, 0)

    def test_redrive_of_one_that_is_not_dead_does_the_others(self, stoker: Any) -> None:
        ended = stoker("dead", "redrive", "d0", "alive", "nope", "--json")
        assert ended.code == 3
        assert json.loads(ended.out) == {"redriven": 1, "missing": ["alive", "nope"]}
        assert ended.err == "error: not dead: alive, nope\n"
        assert counts(stoker) == (2, 2)

    def test_delete_by_id(self, stoker: Any) -> None:
        assert stoker("dead", "delete", "d1", "-q", "emails").out == "deleted 1\n"
        assert stoker("task", "d1").code == 3
        assert counts(stoker) == (1, 2)

    def test_delete_all_asks_first(self, stoker: Any) -> None:
        refused = stoker("dead", "delete", "--all", "-q", "emails", stdin="n\n")
        assert refused.code == 1
        assert counts(stoker) == (1, 3)
        assert stoker("dead", "delete", "--all", "-q", "emails", stdin="y\n").code == 0
        assert counts(stoker) == (1, 0)

    def test_delete_all_for_scripts(self, stoker: Any) -> None:
        ended = stoker("dead", "delete", "--all", "--yes", "-q", "emails", "--json")
        assert (ended.code, json.loads(ended.out)) == (0, {"deleted": 3, "missing": []})
        assert counts(stoker) == (1, 0)


@pytest.mark.parametrize(
    "arguments", [["redrive"], ["delete"], ["redrive", "x", "--all", "-q", "emails"], ["delete", "--all"], ["redrive", "--all"]]
)
def test_it_must_be_clear_which_are_meant(stoker: Any, arguments: list[str]) -> None:
    ended = stoker("dead", *arguments)
    assert ended.code == 2
    assert "--all" in ended.line


@pytest.mark.parametrize("arguments", [["x", "--task", "t", "-q", "emails"], ["x", "--limit", "2"], ["x", "--per-second", "2"]])
def test_filters_and_ids_exclude_each_other(stoker: Any, arguments: list[str]) -> None:
    ended = stoker("dead", "redrive", *arguments)
    assert ended.code == 2
    assert "--task or --failure" in ended.line


def counts(stoker: Any) -> tuple[int, int]:
    """Ready and dead."""
    [stats] = json.loads(stoker("stats", "emails", "--json").out)
    return stats["ready"], stats["dead"]
