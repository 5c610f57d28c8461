"""`stats`, `tasks`, `task`, `version`: what they print, for people and for scripts, and how they fail."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import typer.main

from stoker.cli import build
from stoker.client.client import Client
from stoker.queue.keys import Keys, catalogue
from stoker.rules.identity import Holder
from stoker.version import VERSION
from tests.redis_servers import running_valkey


def test_version(stoker: Any) -> None:
    assert stoker("version") == (0, f"{VERSION}\n", "")
    assert json.loads(stoker("version", "--json").out) == {"version": VERSION}


def test_a_queue_that_cannot_be_read_hides_no_other(stoker: Any, redis_url: str) -> None:
    for name in ("odd", "good", "broken"):
        stoker("enqueue", "t", "-q", name)
    with redis.Redis.from_url(redis_url) as server:
        server.hset(Keys("test", "odd").stats, "enqueued", "abc")
        server.set(Keys("test", "broken").ready, "no sorted set")
    ended = stoker("stats", "--json")
    assert [each["queue"] for each in json.loads(ended.out)] == ["good", "odd"]
    assert ended.code == 1
    assert "queue broken cannot be read" in ended.line


def test_stats_of_all_and_of_one_queue(stoker: Any) -> None:
    stoker("enqueue", "t", "-q", "b", "--count", "3")
    stoker("enqueue", "t", "-q", "a", "--delay", "1m")
    table = stoker("stats").out.splitlines()
    assert table[0].split()[:5] == ["QUEUE", "SCHEDULED", "READY", "RUNNING", "SUCCEEDED"]
    assert [row.split()[:4] for row in table[1:]] == [["a", "1", "0", "0"], ["b", "0", "3", "0"]]
    [only] = json.loads(stoker("stats", "b", "--json").out)
    assert (only["queue"], only["ready"], only["totals"]["enqueued"]) == ("b", 3, 3)


def test_n_is_the_namespace_as_in_kubectl(stoker: Any) -> None:
    stoker("enqueue", "t", "-q", "emails", "-n", "shop")
    assert [queue["queue"] for queue in json.loads(stoker("stats", "-n", "shop", "--json").out)] == ["emails"]
    assert json.loads(stoker("stats", "--json").out) == []
    assert "bad namespace 'a:b'" in stoker("stats", "-n", "a:b").line


def test_a_queue_that_never_was(stoker: Any) -> None:
    stoker("enqueue", "t", "-q", "emails")
    ended = stoker("stats", "email")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == "error: unknown queue 'email'; known: emails\n"


def test_tasks_are_listed_in_the_order_they_will_run(stoker: Any) -> None:
    for task_id, priority in (("low", "-1"), ("high", "9"), ("first", "0"), ("second", "0")):
        stoker("enqueue", "t", "--id", task_id, "--priority", priority)
    assert [row.split()[0] for row in stoker("tasks").out.splitlines()] == ["ID", "high", "first", "second", "low"]
    assert [task["id"] for task in json.loads(stoker("tasks", "--limit", "2", "--json").out)] == ["high", "first"]


def test_the_queue_may_come_from_the_environment(stoker: Any) -> None:
    stoker("enqueue", "t", "--id", "x", STOKER_QUEUE="emails")
    [task] = json.loads(stoker("tasks", "--json", "-q", "emails").out)
    assert task["id"] == "x"


def test_more_than_a_page_of_tasks(stoker: Any) -> None:
    stoker("enqueue", "t", "--count", "130")
    tasks = json.loads(stoker("tasks", "--limit", "120", "--json").out)
    assert len({task["id"] for task in tasks}) == 120


def test_one_task_for_people(stoker: Any) -> None:
    stoker("enqueue", "send_email", "to=ada", "--id", "x", "-q", "emails", "--delay", "10m")
    lines = stoker("task", "x").out.splitlines()
    fields = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in lines}
    assert (fields["task"], fields["queue"], fields["state"]) == ("send_email", "emails", "scheduled")
    assert fields["payload"] == '{"to":"ada"}'
    assert fields["due"].startswith("in ")


def test_an_unknown_task(stoker: Any) -> None:
    ended = stoker("task", "nope", "--json")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("error: no queue has a task 'nope'")


def test_every_command_that_prints_data_has_json() -> None:
    """All but those that run until they are stopped."""
    without = {
        " ".join(path)
        for path, command in leaves(typer.main.get_command(build()))
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without == {"worker", "worker drain", "gateway", "up"}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from leaves(inner, (*path, name))


async def test_a_claim_left_behind_is_released_by_hand(stoker: Any, redis_url: str) -> None:
    client = Client.at(redis_url, "shop")
    await client.inspector.claim("emails", Holder("gone", "shop", "emails", "uid-1"))
    await client.close()

    def release(*flags: str) -> Any:
        with ThreadPoolExecutor(1) as thread:  # the command runs an event loop
            return thread.submit(stoker, "release-claim", "-n", "shop", "-q", "emails", "--yes", *flags).result()

    assert release().out == "emails: released the claim of TaskQueue emails, uid uid-1, cluster gone\n"
    again = release("--json")
    assert (again.code, again.line) == (3, "error: no TaskQueue claims queue 'emails' of namespace 'shop'")


def test_pause_resume_and_purge_as_json(stoker: Any) -> None:
    stoker("enqueue", "t", "-q", "emails")
    assert json.loads(stoker("pause", "-q", "emails", "--json").out) == {"queue": "emails", "paused": True, "changed": True}
    assert stoker("pause", "-q", "emails").out == "emails: already paused\n"
    assert json.loads(stoker("resume", "-q", "emails", "--json").out) == {"queue": "emails", "paused": False, "changed": True}
    purged = stoker("purge", "-q", "emails", "--yes", "--json")
    assert json.loads(purged.out) == {"queue": "emails", "state": "ready", "purged": 1}


@pytest.mark.parametrize("arguments", [["tasks", "--state", "gone"], ["nope"], ["task"], ["tasks", "--limit", "0"]])
def test_wrong_usage_is_exit_code_2(stoker: Any, arguments: list[str]) -> None:
    ended = stoker(*arguments)
    assert ended.code == 2
    assert "Traceback" not in ended.err


def test_redis_is_away(stoker: Any) -> None:
    ended = stoker("stats", "--redis-url", "redis://user:secret@127.0.0.1:1/0")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: Redis at redis://***@127.0.0.1:1 is unavailable")
    assert "--redis-url" in ended.err
    assert "secret" not in ended.err
    assert len(ended.err.splitlines()) == 1


def test_redis_wants_another_password(stoker: Any) -> None:
    with running_valkey("--requirepass", "right") as server:
        ended = stoker("stats", "--redis-url", server.url.replace("//", "//:wrong@"))
    assert ended.code == 1
    assert "credentials" in ended.err
    assert "wrong@" not in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_url_of_another_kind(stoker: Any) -> None:
    ended = stoker("stats", "--redis-url", "http://localhost")
    assert ended.code == 1
    assert ended.err.startswith("error: bad Redis URL: it must start with one of redis://")


def test_a_missing_extra_says_what_to_install(stoker: Any) -> None:
    """As if fastapi were not installed."""
    blocked = "import sys; sys.modules['fastapi'] = None; from stoker.cli import main; sys.argv = ['stoker', 'gateway']; main()"
    ended = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert 'pip install "stoker[gateway]"' in ended.stderr
    assert "Traceback" not in ended.stderr


def test_light_commands_do_not_load_the_heavy(stoker: Any) -> None:
    look = "import sys, stoker.cli as c; c.build(); print([m for m in ('fastapi', 'uvicorn', 'rich.table') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60).stdout == "[]\n"


def test_on_a_terminal_tables_are_drawn(stoker: Any, redis_url: str) -> None:
    stoker("enqueue", "t", "-q", "emails")
    screen = on_a_terminal("stats", redis_url=redis_url)
    assert "emails" in screen
    assert "─" in screen


def test_what_a_task_wrote_cannot_play_with_the_terminal(stoker: Any, redis_url: str) -> None:
    stoker("enqueue", "evil\x1b[2J[red]x", "--id", "x")
    assert "\x1b[2J" not in stoker("tasks").out
    assert "\x1b[2J" not in stoker("task", "x").out
    screen = on_a_terminal("tasks", redis_url=redis_url)
    assert "\x1b[2J" not in screen
    assert "[red]" in "".join(screen.split())


def on_a_terminal(*arguments: str, redis_url: str) -> str:
    """What a person sees."""
    environment = os.environ | {"STOKER_REDIS_URL": redis_url, "STOKER_NAMESPACE": "test", "TERM": "xterm", "COLUMNS": "160"}
    reader, terminal = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "stoker", *arguments], stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    seen = b""
    try:
        while block := os.read(reader, 65536):
            seen += block
    except OSError:  # how a terminal says that the other side is gone
        pass
    os.close(reader)
    assert process.wait(60) == 0
    return seen.decode()


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["table", "json"])
def test_a_terminal_without_utf8_is_no_reason_to_fail(redis_url: str, flags: list[str]) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "STOKER_REDIS_URL": redis_url}

    def stoker(*arguments: str) -> str:
        command = [sys.executable, "-m", "stoker", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30).stdout.decode("ascii")

    stoker("enqueue", "größe", "--id", "one")
    shown = stoker("task", "one", *flags)
    assert (json.loads(shown)["task"] if flags else shown).count("größe" if flags else r"gr\xf6\xdfe") == 1


@pytest.mark.parametrize(
    "command", [["enqueue", "add", "--payload", b'"\xff"'], ["enqueue", b"x=\xff", "add"], ["worker", b"\xff:app"]]
)
def test_an_argument_that_is_no_text_is_an_error_in_one_line(redis_url: str, command: list[str | bytes]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "stoker", *command],
        env={**os.environ, "STOKER_REDIS_URL": redis_url},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode in (1, 2)
    assert b"rror: " in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_a_queue_is_forgotten_once_it_is_not_used(stoker: Any) -> None:
    for queue in ("used", "unused"):
        stoker("enqueue", "t", "-q", queue)
    stoker("purge", "-q", "unused", "--yes")
    assert stoker("queues", "forget", "unused").out == "unused: forgotten\n"
    refused = stoker("queues", "forget", "used")
    assert (refused.code, "'used' has tasks" in refused.line, "--everything" in refused.line) == (1, True, True)
    assert stoker("queues", "list").out == "used\n"
    assert stoker("queues", "forget", "used", "--everything", "--yes").code == 0
    assert json.loads(stoker("queues", "list", "--json").out) == []
    missing = stoker("queues", "forget", "used")
    assert (missing.code, "unknown queue 'used'" in missing.line) == (3, True)


def test_statistics_of_more_queues_than_one_page_of_redis_has(stoker: Any, redis_url: str) -> None:
    names = sorted(f"q{number}" for number in range(120))
    with redis.Redis.from_url(redis_url) as server:
        server.sadd(catalogue("test"), *names)
    assert [each["queue"] for each in json.loads(stoker("stats", "--json").out)] == names
    assert stoker("stats", "nope").line.endswith("...")


@pytest.mark.parametrize("command", ["task", "why", "cancel", "dead show", "dead redrive", "dead delete"])
def test_an_id_that_several_queues_have_needs_the_queue(stoker: Any, command: str) -> None:
    for queue in ("orders", "aaa"):
        stoker("enqueue", "t", "-q", queue, "--id", "order-7")
    stoker("enqueue", "t", "-q", "orders", "--id", "other")
    ids = ("other", "order-7") if command == "cancel" else ("order-7",)
    refused = stoker(*command.split(), *ids)
    assert (refused.code, "several queues have a task 'order-7': aaa, orders" in refused.line) == (1, True)
    assert json.loads(stoker("task", "other", "--json").out)["state"] == "ready", "nothing was done by halves"
