"""Text that is not ours moves no cursor, sets no clipboard and looks like no other line."""

import io
import logging
from types import SimpleNamespace

import pytest
from rich.console import Console

from stoker.local.supervisor import QueueView
from stoker.local.view import _print_changes, line, table
from stoker.rules.printable import printable
from stoker.telemetry.logs import TextFormatter

HOSTILE = [
    pytest.param("a\rb", id="a carriage return"),
    pytest.param("a\x1b[2Jb", id="clears the screen"),
    pytest.param("a\x1b]52;c;cm0gLXJmIC8=\x07b", id="sets the clipboard"),
    pytest.param("a\x9b2Jb", id="one character for two"),
    pytest.param("a\u202eb", id="turns the direction"),
    pytest.param("a\x08\x08b", id="deletes"),
    pytest.param("a\ud800b", id="half a character"),
]
RAW = "\r\x1b\x9b\u202e\x08\x07\ud800"


@pytest.mark.parametrize("text", HOSTILE)
def test_it_is_escaped(text: str):
    assert not set(printable(text)) & set(RAW)
    assert printable(text).isprintable()


def test_what_is_printable_stays():
    assert printable("Grüße, 世界 \\n") == "Grüße, 世界 \\n"
    assert printable("a\nb", "\n") == "a\nb"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_log_shows_none_of_it(text: str):
    record = logging.makeLogRecord(
        {"msg": f"{text}\nforged", "levelno": logging.INFO, "levelname": "INFO", "reason": f"{text}\nforged=1"}
    )
    shown = TextFormatter().format(record)
    ours = "".join(part.partition("m")[2] for part in shown.split("\x1b["))
    assert not set(ours) & set(RAW)
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize("text", ["cannot open [/etc/x]", "[red]x[/red]", "[link=http://evil.example.org]x", "a\x1b[2Jb"])
def test_stoker_up_takes_no_markup_and_no_escapes_from_a_message(text: str):
    view = QueueView("emails", 0, 0, None, None, text)
    screen = Console(file=io.StringIO(), width=200)
    screen.print(table([view]))
    assert printable(text) in screen.file.getvalue()  # type: ignore[attr-defined]
    assert printable(text) in printable(line(view))
    pipe = Console(file=io.StringIO(), width=200)
    _print_changes(SimpleNamespace(views={"emails": view}), {}, pipe)  # type: ignore[arg-type]
    assert printable(text) in pipe.file.getvalue()  # type: ignore[attr-defined]
