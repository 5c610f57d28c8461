"""Bugs to plant in the records beside the tasks, which the model of a queue knows nothing of, and the laws that catch them."""

from collections.abc import Callable
from typing import Any

from stoker.autoscale.scaling_record import ScalingRecord
from stoker.queue.scripts import run
from stoker.queue.tallies import Flush, add_tallies
from stoker.rules.announcement import describe
from stoker.rules.tally import MINUTES, MOST_NAMES, MOST_VERSIONS, OTHER
from tests.engine.line import QUEUE
from tests.proof.ledger import hold
from tests.proof.planted import Bug
from tests.proof.straight import done
from tests.proof.world import World

MINUTE = 60_000
TEMPLATES_KEPT = 50

BUGS = (
    Bug(
        "a repeated flush counts twice",
        "lua/tally.lua",
        "if again then return max_wait end",
        "",
    ),
    Bug(
        "a minute holds any number of names",
        "lua/tally.lua",
        "if known > MOST_NAMES then task = OTHER end",
        "",
    ),
    Bug(
        "versions pile up",
        "lua/tally.lua",
        "if not seen and redis.call('HLEN', versions) >= MOST_VERSIONS then",
        "if false then",
    ),
    Bug(
        "the version that was seen last makes room",
        "lua/tally.lua",
        "return a.last < b.last end",
        "return a.last > b.last end",
    ),
    Bug(
        "a slot of the ring keeps its old minute",
        "lua/tally.lua",
        "period.at ~= number or count_of",
        "count_of",
    ),
    Bug(
        "a forgotten queue leaves its records",
        "lua/forget.lua",
        "schemas, hooks, delayed, minutes, versions, decisions)\nend",
        "schemas, hooks, delayed)\nend",
    ),
    Bug(
        "a forgotten template leaves its schemas",
        "lua/announce.lua",
        "      redis.call('HDEL', schemas, old)\n",
        "",
    ),
    Bug(
        "every worker writes the description of its template",
        "lua/describe.lua",
        "if string.sub(stored, 1, #digest + 1) == digest .. ' ' then return 0 end",
        "",
    ),
)


def flush(world: World, number: int, version: str = "v1", tasks: Any = None) -> None:
    tasks = tasks or {"add": {"started": 1}}
    total = {"started": sum(counts["started"] for counts in tasks.values())}
    done(add_tallies(world.client, world.keys, Flush("w", number, version, tasks, total)))


def counts_once(world: World) -> None:
    flush(world, 1)
    flush(world, 1)
    [minute] = done(world.line.inspector.minutes(QUEUE))
    hold("a repeated flush counts once", minute.all.started == 1, minute)
    flush(world, 2)
    [minute] = done(world.line.inspector.minutes(QUEUE))
    hold("another flush counts", minute.all.started == 2, minute)


def names_are_bounded(world: World) -> None:
    flush(world, 1, tasks={f"task-{number}": {"started": 1} for number in range(MOST_NAMES + 5)})
    stored = done(world.line.inspector.minutes(QUEUE))[0].tasks
    hold("a minute has at most fifty names, and the rest", len(stored) == MOST_NAMES + 1, len(stored))
    rest = stored.get(OTHER)
    hold("what has no name of its own counts all the same", rest is not None and rest.started == 5, rest)


def versions_are_bounded(world: World) -> None:
    for number in range(MOST_VERSIONS + 5):
        flush(world, number, f"v{number}")
        world.idle(1000)
    found = [each.version for each in done(world.line.inspector.versions(QUEUE))]
    hold("the versions that were seen last are kept", found == [f"v{number}" for number in range(5, MOST_VERSIONS + 5)], found)


def a_ring_comes_round(world: World) -> None:
    flush(world, 1)
    world.idle(MINUTES.slots * MINUTE)
    flush(world, 2)
    found = done(world.line.inspector.minutes(QUEUE))
    hold("a slot holds the newest minute alone", [minute.all.started for minute in found] == [1], found)


def announce(world: World, template: str) -> tuple[bool, bool]:
    """Returns whether its description was wanted, and is once it was written."""
    done(world.line.announce(template, {"add": 0}, worker="w"))
    description = describe({"add": b"{}"})
    [wanted] = done(run(world.client, world.line.broker.describe_call(template, description)))
    [again] = done(run(world.client, world.line.broker.describe_call(template, description, ask=True)))
    return bool(wanted), bool(again)


def descriptions_are_written_once(world: World) -> None:
    hold("a description is written once for a template", announce(world, "v1") == (True, False), "see announce")
    for number in range(TEMPLATES_KEPT + 5):
        announce(world, f"v{number}")
        world.idle(1000)
    [kept] = world.client.exchange([("HLEN", world.keys.schemas)])
    hold("a forgotten template has no description", kept == TEMPLATES_KEPT, kept)


def a_forgotten_queue_leaves_nothing(world: World) -> None:
    flush(world, 1)
    announce(world, "v1")
    done(world.line.inspector.record_decision(QUEUE, ScalingRecord(0, 1, 1, "ScaleUp")))
    done(world.line.broker.forget_worker("w"))
    hold("nothing keeps it", done(world.line.inspector.catalogue.forget(QUEUE)) == "", "see what_uses")
    [left] = world.client.exchange([("KEYS", "*")])
    hold("a forgotten queue leaves nothing", left == [], left)


LAWS: tuple[Callable[[World], None], ...] = (
    counts_once,
    names_are_bounded,
    versions_are_bounded,
    a_ring_comes_round,
    descriptions_are_written_once,
    a_forgotten_queue_leaves_nothing,
)
