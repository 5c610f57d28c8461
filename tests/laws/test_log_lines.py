"""Which runs have a line in the log, and who writes the lines of Stoker's loggers."""

import io
import logging
import logging.config
from collections.abc import Callable, Iterator

import pytest

from stoker.settings import LogTasks
from stoker.telemetry.own_lines import OwnLines
from stoker.worker.run.run_lines import LINES_A_SECOND, lines_left
from tests.logging_state import logging_restored


@pytest.mark.parametrize(
    ("mode", "ended", "left"),
    [
        pytest.param("auto", 0, 100, id="an idle worker writes a line for each run"),
        pytest.param("auto", 100, 100, id="a hundred a second are few"),
        pytest.param("auto", 101, 0, id="after a second with more there is a summary only"),
        pytest.param("failures", 0, 0, id="failures: no success has one"),
        pytest.param("none", 0, 0, id="none"),
    ],
)
def test_lines_left(mode: LogTasks, ended: int, left: int):
    assert lines_left(mode, ended) == left


def test_all_means_all():
    assert lines_left("all", 10**9) > 10**12 > LINES_A_SECOND


class Kept(logging.StreamHandler[io.StringIO]):
    """The handler of a worker, and what it wrote."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())

    @property
    def lines(self) -> list[str]:
        return [line.rpartition(":")[2] for line in self.stream.getvalue().splitlines()]


theirs = Kept()


@pytest.fixture
def ours() -> Iterator[Kept]:
    """The root with our handler alone, as `configure` leaves it; afterwards everything as it was."""
    theirs.stream = io.StringIO()
    with logging_restored():
        for name in ("stoker", "stoker.worker", "shop"):
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True
        yield Kept()


def their_handler() -> Kept:
    return theirs


def configured(**more: object) -> Callable[[], None]:
    handlers = {"theirs": {"()": their_handler}}
    return lambda: logging.config.dictConfig({"version": 1, "handlers": handlers, **more})


def at_root() -> None:
    logging.getLogger().addHandler(theirs)


def forced() -> None:
    logging.basicConfig(handlers=[theirs], force=True)


def propagating() -> None:
    forced()
    logging.getLogger("stoker").propagate = True


ROOT = {"level": "WARNING", "handlers": ["theirs"]}
OURS, THEIRS = "ours", "theirs"


@pytest.mark.parametrize(
    ("configure", "own", "other"),
    [
        pytest.param(lambda: None, OURS, OURS, id="nothing: all lines are ours"),
        pytest.param(lambda: logging.basicConfig(handlers=[theirs]), OURS, OURS, id="basicConfig, which does nothing here"),
        pytest.param(forced, OURS, THEIRS, id="basicConfig by force"),
        pytest.param(at_root, OURS, THEIRS, id="another handler at the root"),
        pytest.param(configured(), OURS, OURS, id="dictConfig without a root, which disables all loggers"),
        pytest.param(configured(root=ROOT), OURS, THEIRS, id="dictConfig with a root"),
        pytest.param(configured(root=ROOT, loggers={"stoker": {"level": "INFO"}}), OURS, THEIRS, id="a level for stoker"),
        pytest.param(configured(loggers={"stoker": {"handlers": ["theirs"]}}), THEIRS, OURS, id="a handler for stoker"),
        pytest.param(configured(loggers={"stoker.worker": {"handlers": ["theirs"]}}), THEIRS, OURS, id="one for a logger below it"),
        pytest.param(configured(root=ROOT, loggers={"stoker": {"propagate": True}}), THEIRS, THEIRS, id="asked to propagate"),
        pytest.param(propagating, THEIRS, THEIRS, id="the same by hand"),
    ],
)
def test_each_line_is_written_once(ours: Kept, configure: Callable[[], None], own: str, other: str):
    logging.getLogger().handlers[:] = [ours]  # without those of pytest
    lines = OwnLines(ours, logging.INFO)
    configure()
    for _ in range(2):
        lines.hold()
    logging.getLogger("stoker.worker").info("of a worker")
    shop = logging.getLogger("shop")
    shop.disabled = False
    shop.warning("of the application")
    expected: dict[str, list[str]] = {OURS: [], THEIRS: []}
    expected[own].append("of a worker")
    expected[other].append("of the application")
    assert {OURS: ours.lines, THEIRS: theirs.lines} == expected
