"""How the slots of a worker are split between its queues, and which queues a command line names."""

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from stoker.cli import build
from stoker.errors import Invalid
from stoker.rules.shares import Claim, QueueWeight, parse_queues, split, without_tasks
from stoker.settings import WorkerSettings
from stoker.worker.process.worker_command import Command

claims = st.lists(st.builds(Claim, st.floats(0, 1000), st.integers(1, 100).map(float)), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("free", "claims", "shares"),
    [
        pytest.param(10, [Claim(0, 6), Claim(0, 3), Claim(0, 1)], [6, 3, 1], id="by weight"),
        pytest.param(10, [Claim(0, 6)], [10], id="the share of queues without work goes to the others"),
        pytest.param(10, [Claim(0, 1), Claim(0, 1)], [5, 5], id="equal"),
        pytest.param(1, [Claim(1, 6), Claim(0, 1)], [0, 1], id="the one that is behind goes first"),
        pytest.param(4, [Claim(0, 1), Claim(4, 1)], [4, 0], id="it catches up"),
        pytest.param(6, [Claim(0, 1), Claim(4, 1)], [5, 1], id="and then they are equal"),
        pytest.param(0, [Claim(0, 1)], [0], id="nothing is free"),
        pytest.param(3, [], [], id="no queue has work"),
    ],
)
def test_free_slots_are_split(free: int, claims: list[Claim], shares: list[int]):
    assert split(free, claims) == shares


def test_strictly_the_first_takes_all():
    assert split(5, [Claim(100, 1), Claim(0, 1)], strict=True) == [5, 0]


@given(st.integers(0, 1000), claims)
def test_all_slots_are_offered_and_none_twice(free: int, claims: list[Claim]):
    shares = split(free, claims)
    assert sum(shares) == free
    assert min(shares) >= 0


@given(st.lists(st.integers(1, 100), min_size=2, max_size=6), st.lists(st.integers(1, 20), min_size=50, max_size=100))
def test_in_the_long_run_shares_approach_the_weights_and_no_queue_starves(weights: list[int], freed: list[int]):
    taken = [0] * len(weights)
    for free in freed:
        for at, share in enumerate(split(free, [Claim(taken[at] / weight, weight) for at, weight in enumerate(weights)])):
            taken[at] += share
    for at, weight in enumerate(weights):
        assert abs(taken[at] - sum(taken) * weight / sum(weights)) <= len(weights)


@pytest.mark.parametrize(
    ("texts", "queues"),
    [
        pytest.param([], (), id="none: those of the tasks"),
        pytest.param(["a"], (QueueWeight("a"),), id="one"),
        pytest.param(["a:6", "b:1"], (QueueWeight("a", 6), QueueWeight("b", 1)), id="weights"),
        pytest.param(["a", "b"], (QueueWeight("a"), QueueWeight("b")), id="equal"),
    ],
)
def test_queues_are_read(texts: list[str], queues: tuple[QueueWeight, ...]):
    assert parse_queues(texts) == queues


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        pytest.param(["a:6", "b"], "b has none", id="only some have weights"),
        pytest.param(["a", "b", "a"], "a is given twice", id="one twice"),
        pytest.param(["a:0"], "from 1 to 1000", id="no weight"),
        pytest.param(["a:x"], "whole number", id="a weight in words"),
        pytest.param(["a:"], "whole number", id="an empty weight"),
        pytest.param(["A:1"], "bad queue name", id="no name"),
    ],
)
def test_and_refused(texts: list[str], words: str):
    with pytest.raises(Invalid, match=words):
        parse_queues(texts)


def test_a_worker_without_tasks_in_its_queues():
    tasks = [("ship", "orders"), ("bake", "oven")]
    assert without_tasks(["mail"], tasks) == "no task of the application is in mail: its tasks are in orders, oven"
    assert not without_tasks(["mail", "oven"], tasks)
    assert not without_tasks(["mail"], [])


def read(*flags: str) -> WorkerSettings:
    """The settings of `stoker worker` with these flags."""
    heard: list[Command] = []
    command = typer.main.get_command(build()).commands["worker"]  # type: ignore[attr-defined]
    command.main(["shop:app", *flags], standalone_mode=False, obj=heard.append)
    return heard[0].settings


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["-q", "a:6", "-q", "b"], "give all of them one, or none", id="mixed weights"),
        pytest.param(["-q", "a", "-q", "a"], "given twice", id="the same twice"),
        pytest.param(["--strict", "-q", "a:2", "-q", "b:1"], "give them no weights", id="strict with weights"),
        pytest.param(["--strict"], "name the queues", id="strict without queues"),
        pytest.param(["--all-queues", "-q", "a"], "not both", id="all and some"),
        pytest.param([flag for number in range(33) for flag in ("-q", f"q{number}")], "at most 32", id="too many"),
    ],
)
def test_contradictions_of_flags_are_refused(flags: list[str], words: str):
    with pytest.raises(Invalid, match=words):
        read(*flags)


def test_flags_and_variables_name_the_same_queues(monkeypatch: pytest.MonkeyPatch):
    several = (QueueWeight("a", 6), QueueWeight("b", 1))
    assert (read("-q", "a:6", "-q", "b:1").queues, read("-q", "a").queue, read().queue) == (several, "a", "")
    monkeypatch.setenv("STOKER_QUEUE", "a:6 b:1")
    assert read().queues == several
