"""Every exception has an outcome, also one that cannot be described: a run without an outcome would never be settled."""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from stoker.errors import Snooze
from stoker.rules.settle import Failure, Fatal, Raised
from stoker.worker.run.outcome import failure_of, raised, returned


def syntax_error_with_odd_fields() -> BaseException:
    error = SyntaxError("bad", ("shop.py", 1, 1, "x = ="))
    error.lineno, error.offset, error.text = "one", object(), 5  # type: ignore[assignment]
    return error


class Lookup(Exception):
    def __getattr__(self, name: str) -> NoReturn:
        raise KeyError(name)


class ExitInStr(Exception):
    def __str__(self) -> str:
        sys.exit(3)


class OddText(str):
    def __getitem__(self, _: Any) -> NoReturn:
        raise RuntimeError("no")

    def encode(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("no")


class TextOfAnotherClass(Exception):
    def __str__(self) -> str:
        return OddText("odd")


class Closed(Exception):
    def __getattribute__(self, name: str) -> NoReturn:
        raise SystemExit(name)


class NamelessKind(type):
    @property
    def __name__(cls) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("no name")


class Nameless(Exception, metaclass=NamelessKind):
    pass


class SnoozeWithoutSeconds(Snooze):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    "make",
    [syntax_error_with_odd_fields, Lookup, ExitInStr, TextOfAnotherClass, Closed, Nameless, SnoozeWithoutSeconds],
    ids=["syntax error", "getattr", "exit in str", "text of another class", "getattribute", "metaclass", "snooze without seconds"],
)
def test_an_exception_that_cannot_be_described_is_a_failure(make: Callable[[], BaseException]) -> None:
    try:
        raise make()
    except BaseException as error:
        outcome, failure = raised(error, None), failure_of(error)
        kind = type.__dict__["__name__"].__get__(type(error))
    assert isinstance(outcome, Raised)
    assert outcome.failure.type == failure.type == kind


def test_its_traceback_still_names_the_line() -> None:
    with pytest.raises(SyntaxError) as caught:
        raise syntax_error_with_odd_fields()
    assert "test_its_traceback_still_names_the_line" in failure_of(caught.value).traceback


def test_a_text_of_another_class_is_text() -> None:
    assert failure_of(TextOfAnotherClass()).message == "odd"


def test_a_value_that_raises_while_it_is_encoded_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_: object) -> bytes:
        raise ExitInStr

    monkeypatch.setattr("stoker.worker.run.outcome.write", write)
    outcome = returned("shop.close", object())
    assert isinstance(outcome, Fatal)
    assert outcome.failure.type == "ResultNotJSON"


def test_a_plain_failure_is_as_before() -> None:
    failure = failure_of(ValueError("no"))
    assert (failure.type, failure.message) == ("ValueError", "no")
    assert failure == Failure("ValueError", "no", "ValueError: no\n", "ValueError: no")
