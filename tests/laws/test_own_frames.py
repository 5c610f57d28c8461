"""Which function of an application is to blame: its own last one, not the library that raised."""

import importlib.util
import json
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from stoker.worker.run import frames
from stoker.worker.run.frames import own_frame
from stoker.worker.run.outcome import failure_of


def ship(order: object) -> None:
    pack(order)


def pack(order: object) -> None:
    json.loads(str(order))


def caught(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError


def test_the_last_own_function_is_to_blame() -> None:
    assert own_frame(caught(lambda: ship("no JSON"))) == f"{__name__}.pack"


def test_a_function_within_a_function() -> None:
    def inner() -> None:
        raise ValueError("17")

    error = caught(inner)
    assert own_frame(error) == f"{__name__}.test_a_function_within_a_function.inner"
    assert failure_of(error).fingerprint == f"ValueError in {own_frame(error)}: #"


def test_an_error_without_a_traceback_has_no_place() -> None:
    assert own_frame(ValueError("never raised")) == ""
    assert failure_of(ValueError("order 17")).fingerprint == "ValueError: order #"


def test_the_place_of_an_application_that_is_installed_is_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "installed.py"
    file.write_text("def task(call):\n    return deeper(call)\ndef deeper(call):\n    raise LookupError\n")
    module = _loaded(file)
    assert own_frame(caught(lambda: module.task(None))) == "installed.deeper"
    monkeypatch.setattr(frames, "_INSTALLED", (str(tmp_path),))
    frames._kind.cache_clear()
    error = caught(lambda: module.task(None))
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next and error.__traceback__.tb_next.tb_next
    assert own_frame(error) == "installed.task"
    frames._kind.cache_clear()


def _loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_installed_and_what_is_python() -> None:
    paths = sysconfig.get_paths()
    assert frames._kind(f"{paths['purelib']}/httpx/client.py") == "installed"
    assert frames._kind(f"{paths['stdlib']}/json/decoder.py") == "python"
    assert frames._kind(frames.__file__) == "python"
    assert frames._kind("<frozen importlib>") == "python"
    assert frames._kind("/srv/shop/orders.py") == "own"
