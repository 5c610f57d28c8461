"""From a task's arguments to the text that is its concurrency key."""

from typing import Any

import pytest

from stoker import Concurrency, Invalid, Stoker
from stoker.app.task import Task
from stoker.rules.concurrency import Limit

app = Stoker("shop")


@app.task(concurrency=Concurrency("customer:{customer}", limit=2))
async def bill(customer: int, month: str = "May") -> None: ...


@app.task(concurrency=Concurrency(lambda customer, month: f"{month}/{customer}"))
async def remind(customer: int, month: str) -> None: ...


@app.task()
async def greet(customer: int) -> None: ...


@pytest.mark.parametrize(
    ("task", "options", "arguments", "limit"),
    [
        pytest.param(bill, {}, {"customer": 7}, Limit("customer:7", 2), id="an argument by its name"),
        pytest.param(remind, {}, {"customer": 7, "month": "June"}, Limit("June/7", 1), id="a function of the arguments"),
        pytest.param(greet, {}, {"customer": 7}, None, id="no key"),
        pytest.param(greet, {"concurrency": Concurrency("greetings", 3)}, {"customer": 7}, Limit("greetings", 3), id="of one call"),
        pytest.param(bill, {"concurrency": Concurrency("{month}")}, {"customer": 7}, Limit("May", 1), id="a default"),
        pytest.param(bill, {"concurrency": None}, {"customer": 7}, None, id="none for one call"),
    ],
)
def test_the_key_of_a_call(task: Task[..., Any], options: Any, arguments: dict[str, Any], limit: Limit | None) -> None:
    assert task.options(**options).prepare(**arguments).limit == limit


def test_positional_arguments_have_names_too() -> None:
    assert bill.options().prepare(8).limit == Limit("customer:8", 2)


@pytest.mark.parametrize("limit", [0, -1, 1001, 1.5, "2"])
def test_a_limit_out_of_range_is_refused(limit: Any) -> None:
    with pytest.raises(Invalid, match="limit"):
        Concurrency("a", limit)


@pytest.mark.parametrize("key", ["", "a\x1fb", "line\nbreak", "x" * 256, "{shop}", "{0}", "{customer.name}", "{customer"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(Invalid, match="key"):
        bill.options(concurrency=Concurrency(key)).prepare(customer=7)
