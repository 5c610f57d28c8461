"""Handlers of dead tasks: found by the script that buries, enqueued once by whoever relays the outbox."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw
from msgspec.structs import replace

from stoker.manifest.policies import KeepFor, Lease, Retention
from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.queue.scripts import run
from stoker.queue.settlements import Settlement
from stoker.queue.workflows.outbox import Outbox
from stoker.rules.admission import Admission
from stoker.rules.announcement import Announcement
from stoker.rules.dead_task import DeathCause
from stoker.rules.message import Message, decode
from stoker.rules.retry import Retry
from stoker.rules.settle import Bury, Cancel, Fatal, Raised, Unclaim, settle
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from stoker.rules.workflow import GroupStep, TaskStep, dump_links, load_onward, number
from tests.engine.line import FAILURE, LEASE, NAMESPACE, QUEUE, Line, message, now

pytestmark = pytest.mark.every_server
DEAD = Bury(FAILURE)


def step(task: str = "page", queue: str = QUEUE, **options: Any) -> TaskStep:
    return TaskStep(Message("", task, Raw(b'{"level":1}'), queue, 0, **options), into="dead")


async def announce(line: Line, hooks: dict[str, TaskStep], template: str = "new", names: dict[str, int] | None = None) -> None:
    steps = {name: msgspec.json.encode(each).decode() for name, each in hooks.items()}
    await line.beat(worker=template, template=template)
    await run(line.redis, line.broker.announce_call(Announcement(template, names or {"add": 0}, steps)))


async def die(line: Line, task_id: str, transition: Bury = DEAD) -> None:
    [delivery] = await line.fetch()
    assert delivery.id == task_id
    assert await line.settle(delivery, transition)


async def handlers(line: Line, queue: str = QUEUE) -> list[Message]:
    """Relays, and reads the tasks that handle others."""
    outbox = Outbox(line.redis, line.keys)
    entries = await outbox.read()
    for _ in range(2):  # whoever repeats it changes nothing
        await outbox.relay(entries)
    envelopes = await now(line.redis.hvals(Keys(NAMESPACE, queue).tasks))
    return sorted((each for each in map(decode, envelopes) if each.handles is not None), key=lambda each: each.id)


async def test_the_handler_is_given_the_story_and_the_dead_task_says_who_handles_it(line: Line) -> None:
    await announce(line, {"add": step(priority=7)})
    await line.broker.enqueue([Admission(replace(message("a", n=5), headers={"tenant": "x"}))])
    await die(line, "a")
    [handler] = await handlers(line)
    story = msgspec.json.decode(handler.payload)["dead"]
    assert (handler.task, handler.priority, handler.handles) == ("page", 7, "a")
    assert story["failure"]["type"] == FAILURE.type
    assert {name: story[name] for name in ("id", "task", "queue", "cause", "attempts", "arguments", "headers")} == {
        "id": "a",
        "task": "add",
        "queue": QUEUE,
        "cause": "failed",
        "attempts": 1,
        "arguments": {"n": 5},
        "headers": {"tenant": "x"},
    }
    [past] = (await line.status("a")).history
    assert [(each.id, each.queue, each.task) for each in past.handlers] == [(handler.id, QUEUE, "page")]
    assert f"its death is handled by page {handler.id} in {QUEUE}" in (await line.inspector.explain(QUEUE, "a")).text
    assert await line.examine() == []


async def test_each_death_has_its_own_handler(line: Line) -> None:
    await announce(line, {"add": step(queue="ops")})
    await line.enqueue("a")
    await die(line, "a")
    await line.inspector.redrive(QUEUE, ["a"])
    await die(line, "a", Bury(FAILURE, fatal=True))
    found = await handlers(line, "ops")
    assert sorted(msgspec.json.decode(each.payload)["dead"]["cause"] for each in found) == ["failed", "fatal"]


async def test_the_death_of_a_handler_is_not_handled(line: Line) -> None:
    await announce(line, {"add": step(), "page": step()})
    await line.enqueue("a")
    await die(line, "a")
    [handler] = await handlers(line)
    await die(line, handler.id)
    assert len(await handlers(line)) == 1
    assert (await line.status(handler.id)).state is TaskState.DEAD


async def test_what_is_cancelled_or_has_expired_is_not_handled(line: Line) -> None:
    """Both are the same verb; and beside one that dies, in the same call."""
    await announce(line, {"add": step()})
    await line.enqueue("a", "b")
    one, two = await line.fetch()
    await line.broker.turn([Settlement(one.id, one.fence, Cancel("expired")), Settlement(two.id, two.fence, DEAD)], 0, "w")
    assert [each.handles for each in await handlers(line)] == ["b"]


async def test_a_task_that_is_lost_or_unclaimed_for_too_long_is_handled(line: Line) -> None:
    await announce(line, {"add": step()})
    line.broker = Broker(line.redis, line.keys, Lease(Duration(LEASE), 1), Retention(unclaimed=KeepFor(Duration(60))))
    await line.enqueue("a")
    await line.fetch()
    await line.pass_time(LEASE + 1)
    assert (await line.broker.reap()).buried == 1
    await line.enqueue("b", "c")
    await line.pass_time(100)  # no worker of the new template lives
    one, two = await line.fetch()
    assert (one.id, two.id) == ("b", "c")
    await line.broker.turn(
        [Settlement(one.id, one.fence, Unclaim("add", 0, "old", 1)), Settlement(two.id, two.fence, DEAD)], 0, "w"
    )
    await line.pass_time(61)
    await line.broker.sweep()
    stories = [msgspec.json.decode(each.payload)["dead"] for each in await handlers(line)]
    assert {story["id"]: story["cause"] for story in stories} == {
        "a": DeathCause.LOST,
        "b": DeathCause.UNCLAIMED,
        "c": DeathCause.FAILED,
    }


async def test_the_newest_announcement_decides_for_the_names_that_it_knows(line: Line) -> None:
    async def hooks() -> dict[str, str]:
        found = await now(line.redis.hgetall(line.keys.hooks))
        return {name.decode(): msgspec.json.decode(value.partition(b" ")[2])["message"]["task"] for name, value in found.items()}

    await announce(line, {"add": step("one"), "mul": step("one")}, "old", {"add": 0, "mul": 0})
    await announce(line, {"add": step("two")}, "new")
    assert await hooks() == {"add": "two", "mul": "one"}
    await announce(line, {}, "new")
    assert await hooks() == {"mul": "one"}
    for number_ in range(51):
        await announce(line, {}, f"t{number_}", {"div": 0})
        await now(line.redis.delete(line.keys.beats))
    assert await hooks() == {}  # with the announcement of its template


async def test_calls_name_handlers_and_the_first_death_in_a_group_has_one(line: Line) -> None:
    links = dump_links((), (step("one"), step("two")))
    await line.broker.enqueue([Admission(replace(message("a"), onward=links))])
    await die(line, "a")
    assert sorted(each.task for each in await handlers(line)) == ["one", "two"]
    members = tuple((TaskStep(message("")),) for _ in range(2))
    [group] = number((GroupStep(members, on_failure=(step("fix"),)),), "g")
    assert isinstance(group, GroupStep)
    for chain in group.members:
        assert isinstance(chain[0], TaskStep)
        assert [each.message.id for each in load_onward(chain[0].message.onward).on_failure] == ["g.3.f1"]
        await line.broker.enqueue([Admission(chain[0].message)])
    for delivery in await line.fetch():
        if delivery.id.startswith("g"):
            await line.settle(delivery, DEAD)
    assert [each.id for each in await handlers(line) if each.task == "fix"] == ["g.3.f1"]


async def test_arguments_that_leave_no_room_for_the_story_are_left_out(line: Line) -> None:
    await announce(line, {"add": step()})
    await line.broker.enqueue([Admission(message("a", text="x" * 262_000))])
    await die(line, "a")
    [handler] = await handlers(line)
    assert "arguments" not in msgspec.json.decode(handler.payload)["dead"]


@pytest.mark.parametrize("value", [b"junk", b"new junk", b"new []", b'new {"message":7}', b"new " + b"x" * 9000])
async def test_a_hook_that_nothing_has_announced_harms_no_burial(line: Line, value: bytes) -> None:
    await now(line.redis.hset(line.keys.hooks, "add", value))
    await line.enqueue("a")
    await die(line, "a")
    assert (await line.status("a")).state is TaskState.DEAD
    assert await now(line.redis.xlen(line.keys.outbox)) == 0
    if not value.startswith((b"new {",)):
        assert [found.id for found in await line.examine(mend=True)] == ["hooks add"]
    await now(line.redis.delete(line.keys.hooks))
    await now(line.redis.set(line.keys.hooks, b"text"))
    await line.inspector.redrive(QUEUE, ["a"])
    await die(line, "a")
    await announce(line, {"add": step()})
    assert await now(line.redis.hkeys(line.keys.hooks)) == [b"add"]


def test_a_task_that_no_retry_could_help_says_so() -> None:
    policy = Retry(max_retries=0)
    assert settle(Fatal(FAILURE), policy, failures=0, random=lambda: 0.0) == Bury(FAILURE, fatal=True)
    assert settle(Raised(FAILURE), policy, failures=0, random=lambda: 0.0) == Bury(FAILURE)
