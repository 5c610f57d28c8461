"""The least rights of docs/how-to/redis.md: enough for everything, and not one more than is needed."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from msgspec import Raw
from redis.asyncio import Redis

from stoker.autoscale.scaling_record import ScalingRecord
from stoker.client.client import Client
from stoker.errors import RedisRefused
from stoker.manifest.policies import Lease, Retention
from stoker.queue.broker import Broker
from stoker.queue.catalogue import Catalogue
from stoker.queue.health import check_layout, check_server
from stoker.queue.inbox import Inbox
from stoker.queue.keys import Keys
from stoker.queue.progress import Note
from stoker.queue.reads.events import attend
from stoker.queue.reads.inspector import Inspector
from stoker.queue.rights import COMMANDS, keys_of
from stoker.queue.schedules import TASKQUEUE
from stoker.queue.scripts import PRELUDE, run
from stoker.queue.tallies import Flush, add_tallies
from stoker.queue.workflows.effects import Keyed, relay_call
from stoker.queue.workflows.outbox import Outbox
from stoker.redis.client import ask_alone
from stoker.redis.connect import connect
from stoker.redis.users import set_user
from stoker.rules.admission import Admission
from stoker.rules.announcement import describe
from stoker.rules.concurrency import Limit
from stoker.rules.effects import MAX_DIRECT, begin
from stoker.rules.identity import Holder
from stoker.rules.message import Message
from stoker.rules.schedule import Definition, cron
from stoker.rules.settle import Bury, Release, Retry, Snooze
from stoker.rules.states import TaskState
from stoker.rules.tally import MOST_VERSIONS
from stoker.rules.workflow import GroupStep, Origin, OutboxEntry, TaskStep, number
from stoker_operator.credentials.tenant import tenant_user, url_for
from tests.engine.line import DONE, FAILURE, NAMESPACE, QUEUE, Line, Worded, message
from tests.redis_servers import Kind, Server, running_valkey
from tests.redis_topologies import ask, running_cluster

ROOT = Path(__file__).resolve().parents[2]
LUA = ROOT / "worker/src/stoker/queue/lua"
PAGE = (ROOT / "docs/how-to/redis.md").read_text()
PROGRESS = b'{"done": 1, "total": 2, "note": "", "at": 1}'
LOGGED = b'{"at": 1, "attempt": 1, "level": "info", "text": "hello"}'
HOLDER = Holder("cluster", "shop", "emails", "uid")
ALWAYS = {"evalsha", "eval", "ping"}


class Role(NamedTuple):
    """Who logs in: the scripts it runs, and the commands it sends besides."""

    scripts: set[str]
    commands: set[str]


WORKFLOWS = {"launch", "relay", "missing"}
CLOCK = {"schedules", "timetable", "start_runs"}
DOCTOR = {
    "examine",
    "examine_inbox",
    "examine_records",
    "read_inbox",
    "examine_marks",
    "examine_joins",
    "examine_schedules",
    "examine_wake",
    "missing",
    "relay",
    "intake",
}
TASKS = {
    "enqueue",
    "settle",
    "fetch",
    "heartbeat",
    "pass_on",
    "leave",
    "mind",
    "promote",
    "reap",
    "sweep",
    "task",
    "intake",
    "read_inbox",
    "progress",
    "announce",
    "describe",
    "tally",
}
ROLES = {
    "worker": Role(
        TASKS | WORKFLOWS | CLOCK | {"rest", "forget"},
        {"sadd", "hget", "hset", "blpop", "info", "xrange", "xdel", "hdel", "smismember", "srandmember", "srem"},
    ),
    "application": Role(WORKFLOWS | {"enqueue", "cancel", "task", "why"}, {"sadd", "hget", "sscan", "xrange", "xdel"}),
    "gateway": Role(
        {
            "enqueue",
            "cancel",
            "task",
            "why",
            "stats",
            "redrive",
            "discard",
            "purge",
            "pause",
            "set_schedule",
            "attend",
            "release_claim",
            "tallies",
            "logbook",
            "announcements",
            "operation",
            "operations",
            "forget",
        }
        | CLOCK
        | DOCTOR,
        {
            "sadd",
            "hget",
            "hgetall",
            "hkeys",
            "smismember",
            "srem",
            "sscan",
            "zrange",
            "zrevrange",
            "zcard",
            "info",
            "hscan",
            "zscan",
            "xread",
        }
        | {"hmget", "hincrby", "xrange", "xdel"},
    ),
    "operator": Role({"stats", "reap_worker", "claim", "release_claim"} | CLOCK, {"hkeys", "hscan"}),
}


def commands_of(scripts: set[str]) -> set[str]:
    """What these scripts call, with those functions of the prelude that they use."""
    prelude = "".join((LUA / f"{part}.lua").read_text() for part in PRELUDE)
    head = r"^(?:local )?function "
    functions = dict(re.findall(rf"{head}([\w.]+)(.*?)(?={head}|\Z)", prelude, re.MULTILINE | re.DOTALL))
    text = "".join((LUA / f"{name}.lua").read_text() for name in scripts)
    used: set[str] = set()
    while more := {name for name in functions if name not in used and _calls(text, name)}:
        used |= more
        text += "".join(functions[name] for name in more)
    calls = re.findall(r"(?:redis\.call|call_with)\('(\w+)'(?:, '([A-Z]+)')?", text)
    return {f"{command}|{subcommand}".rstrip("|").lower() for command, subcommand in calls}


def _calls(text: str, function: str) -> bool:
    kind, _, name = function.rpartition(".")
    return bool(re.search(rf"\b{kind}\[" if kind else rf"\b{name}\(", text))


def needed(role: str) -> set[str]:
    return commands_of(ROLES[role].scripts) | ROLES[role].commands | ALWAYS


def line_for(role: str) -> str:
    """The line that the page must have."""
    rights = " ".join(f"'+{command}'" if "|" in command else f"+{command}" for command in sorted(needed(role)))
    return f"ACL SETUSER stoker-{role} on '>change-me' resetchannels '~{{stoker:*' '~{{stoker}}:*' {rights}"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_what_its_scripts_call(role: str):
    assert COMMANDS[role] == needed(role)


@pytest.mark.parametrize("role", ROLES)
def test_the_page_gives_each_role_what_its_scripts_call(role: str):
    assert line_for(role) in " ".join(PAGE.replace("\\\n", " ").split()), f"docs/how-to/redis.md must say:\n{line_for(role)}"


def test_every_script_belongs_to_a_role():
    assert {path.stem for path in LUA.glob("[!_]*.lua")} == set().union(*(role.scripts for role in ROLES.values()))


@pytest.fixture(scope="module", params=list(Kind), ids=lambda kind: kind.value)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running_valkey(kind=request.param) as running:
        yield running


class Visitor(Line):
    """Somebody with few rights; `master` has all of them."""

    def __init__(self, redis: Redis, master: Line) -> None:
        super().__init__(redis, Lease(), Retention())
        self.master = master
        self.of_one_queue = False


@asynccontextmanager
async def let_in(server: Server, role: str, without: str = "", keys: Sequence[str] = keys_of(NAMESPACE)) -> AsyncIterator[Visitor]:
    """A line for somebody with the page's rights, less one."""
    rights = [f"+{command}" for command in sorted(needed(role)) if command != without]
    rights += ["+persist"] if server.kind is Kind.REDIS_6 else []
    ask(server, "FLUSHALL")
    ask(server, "SCRIPT", "FLUSH")
    ask(server, "ACL", "SETUSER", role, "reset", "on", ">secret", "resetchannels", *keys, *rights)
    everything, few = Worded(connect(server.url)), connect(server.url.replace("//", f"//{role}:secret@"))
    try:
        yield Visitor(cast(Any, few), Line(everything, Lease(), Retention()))
    finally:
        await few.aclose()
        await everything.aclose()


async def a_large_group(line: Line, queue: str = QUEUE) -> None:
    """One that goes through the outbox."""
    link = TaskStep(Message("", "add", Raw(b"{}"), queue, 0))
    group = GroupStep(((link,),) * (MAX_DIRECT + 1))
    await Client(line.redis, NAMESPACE).launch(number((group, link), "group"), "group")
    outbox = Outbox(line.redis, line.keys)
    await outbox.relay(await outbox.read())


async def as_worker(line: Visitor) -> None:
    master = line.master
    await attend(master.redis, master.keys)
    await check_server(line.redis)
    await check_layout(line.redis, line.keys)
    await line.inspector.ping()
    await line.broker.register()
    for attempt in range(2):
        await line.enqueue(*(f"{attempt}{number}" for number in range(8)), priority=3)
    await line.enqueue("00", "later", priority=3, delay=5)
    await line.broker.wait_for_work(1)
    deliveries = await line.fetch(7, worker="w")
    await line.beat(*deliveries, worker="w")
    await line.broker.write_notes([Note(deliveries[0].id, deliveries[0].fence, PROGRESS, 1, [LOGGED])])

    ends = [DONE, Retry(0, FAILURE), Retry(5, FAILURE), Bury(FAILURE), Snooze(1), Release()]
    for delivery, end in zip(deliveries, ends, strict=False):
        await line.settle(delivery, end, busy=1)
        await line.settle(delivery, end)
    for entry in ({"task": "add", "delay": "5", "priority": "3"}, {"task": ""}):
        await master.redis.xadd(line.keys.inbox, cast(Any, entry))
    await Inbox(line.redis, line.keys).take_in()
    await close_inbox(master)
    await master.pass_time(100)
    await line.broker.mind("w")
    await line.broker.promote()
    await line.broker.reap()
    await line.fetch(100, worker="dies too")  # what is lost twice is a suspect
    await master.pass_time(100)
    await line.broker.reap()
    await line.enqueue("k1", "k2", priority=9, limit=Limit("a customer", 1))
    first, *_ = await line.fetch(100, worker="other")
    await line.settle(first, DONE)
    await line.broker.quiet("w")
    await a_large_group(line)
    await line.broker.sweep()
    await line.status("00")
    await by_the_clock(line, "code:shop")
    await line.enqueue("u1", "u2", priority=100)
    unknown = await line.fetch(2, worker="other")
    for delivery in unknown:
        await line.unclaim(delivery)
    await line.announce("new", {"add": 0})
    await run(line.redis, line.broker.describe_call("new", describe({"add": b"{}"})))
    for delivery in await line.fetch(2, worker="other"):
        await line.unclaim(delivery)
    await master.pass_time(8 * 86400)
    await line.broker.sweep()
    for at in range(MOST_VERSIONS + 1):
        await add_tallies(line.redis, line.keys, Flush("w", at, f"v{at}", {"add": {"started": 1}}, {"started": 1}))
    await line.broker.forget_worker("w")
    await line.broker.pass_on()
    await forgets(line)


async def as_application(line: Visitor) -> None:
    await as_sender(line)
    await a_large_group(line)
    await line.inspector.cancel(QUEUE, ["group.2"])


async def as_sender(line: Visitor) -> None:
    await attend(line.master.redis, line.keys)
    await check_layout(line.redis, line.keys)
    await line.inspector.ping()
    await line.broker.register()
    await line.enqueue("a", "b", "c", priority=3)
    await line.enqueue("a", "later", priority=3, delay=5)
    await line.status("a")
    await line.inspector.find("a")
    await line.inspector.explain(QUEUE, "b")
    await line.master.fetch(1)
    await Inspector(line.redis, NAMESPACE).cancel(QUEUE, ["a", "b", "nobody"])
    await line.enqueue("k", "l", limit=Limit("a customer", 1))
    await line.master.fetch(5)
    await line.inspector.explain(QUEUE, "l")
    await line.inspector.cancel(QUEUE, ["k", "l"])


async def as_gateway(line: Visitor) -> None:
    master, inspector = line.master, Inspector(line.redis, NAMESPACE, "alice@laptop")
    await check_server(line.redis)
    await as_sender(line)
    await a_large_group(master)
    await inspector.cancel(QUEUE, ["group.2"])
    for name in ("x", "y"):
        await master.enqueue(name, priority=9)
        [delivery] = await master.fetch(1)
        await master.settle(delivery, Bury(FAILURE))
    await master.redis.xadd(line.keys.inbox, {"task": "add"})
    async for event in inspector.events(QUEUE, after="0-0"):
        assert event.id
        break
    await inspector.stats([QUEUE], 10)
    for state in TaskState:
        await inspector.tasks(QUEUE, state)
    await inspector.redrive(QUEUE, ["x"])
    await inspector.delete(QUEUE, ["y"])
    async for _ in inspector.redrive_all(QUEUE):
        pass
    await inspector.pause(QUEUE)
    await inspector.resume(QUEUE)
    await inspector.set_max_wait(QUEUE, 30)
    await add_tallies(master.redis, master.keys, Flush("w", 1, "v1", {"add": {"started": 1}}, {"started": 1}))
    assert await inspector.minutes(QUEUE)
    assert await inspector.versions(QUEUE)
    await master.inspector.record_decision(QUEUE, ScalingRecord(0, 1, 1, "ScaleUp"))
    assert await inspector.decisions(QUEUE)
    assert await inspector.audit(QUEUE)
    assert await inspector.operations()
    await master.announce("new", {"add": 0})
    assert await inspector.announcements(QUEUE)
    await inspector.set_max_wait(QUEUE, None)
    await master.inspector.claim(QUEUE, HOLDER)
    await inspector.release_claim(QUEUE)
    assert [gone async for gone in inspector.purge(QUEUE, TaskState.READY)]
    await is_mended(line, inspector)
    await by_the_clock(line, TASKQUEUE)
    schedules = inspector.schedules(QUEUE)
    await schedules.run_now("hourly")
    await schedules.pause("hourly")
    await schedules.resume("hourly")
    await schedules.remove("hourly")
    assert await schedules.all() == []
    if not line.of_one_queue:
        assert await inspector.catalogue.forget("unused") == ""


async def is_mended(line: Visitor, inspector: Inspector) -> None:
    """An entry that nobody can read, a join whose members are nowhere, and an inbox that takes nothing."""
    assert [finding async for finding in inspector.examine(QUEUE)] == []
    link = TaskStep(message("member"))
    steps = number((GroupStep(((link,),)), link), "gone")
    join = next(begin(OutboxEntry("key", Origin(0), steps), lambda queue, _: queue))
    await line.master.redis.xadd(line.keys.outbox, {"body": "{"})
    await run(line.master.redis, relay_call(line.keys, [Keyed("", join)]))
    await close_inbox(line.master)
    found = [finding async for finding in inspector.examine(QUEUE, mend=True)]
    assert [finding.mended for finding in found] == [True, True, True]
    assert len(await inspector.delete(QUEUE, [finding.id for finding in found])) == 2


async def forgets(line: Visitor) -> None:
    if line.of_one_queue:  # whose user cannot look at the others
        return
    catalogue = Catalogue(line.redis, NAMESPACE)
    assert await catalogue.forget("unused") == ""
    await catalogue.forget_idle()


async def close_inbox(line: Line) -> None:
    await cast(Any, line.redis).xadd(line.keys.inbox, {"task": "add"}, id="99999999999999-1", maxlen=0)


async def as_operator(line: Visitor) -> None:
    await attend(line.master.redis, line.keys)
    await line.master.enqueue("k1", "k2", limit=Limit("a customer", 1), priority=3)
    await line.master.enqueue("a")
    await line.inspector.ping()
    for _ in range(2):
        held = await line.master.fetch(worker="pod-1-7-abcdef")
        await line.master.beat(*held, worker="pod-1-7-abcdef")
        await line.master.broker.wait_for_work(1)
        await line.inspector.reap_worker(QUEUE, "pod-1", 2)
    await line.inspector.claim(QUEUE, HOLDER)
    await line.inspector.release_claim(QUEUE, HOLDER)
    await line.inspector.record_decision(QUEUE, ScalingRecord(0, 1, 1, "ScaleUp"))
    await line.master.redis.xadd(line.keys.inbox, {"task": "add"})
    await line.stats(10)
    await by_the_clock(line, TASKQUEUE)


async def by_the_clock(line: Visitor, source: str) -> None:
    schedules, hourly = line.inspector.schedules(QUEUE), Definition("hourly", cron("@hourly"), "add", limit=Limit("a customer", 1))
    await schedules.register(source, 1, [hourly, Definition("gone", cron("@hourly"), "add")])
    for late in (3601, 3601):
        await line.master.pass_time(late)
        await line.master.redis.delete(line.keys.wake)
        await schedules.look()
    await line.master.inspector.cancel(QUEUE, [(await line.master.inspector.schedules(QUEUE).all())[1].last_run or ""])
    await schedules.look()
    await schedules.register(source, 2, [hourly])


SCENES: dict[str, Callable[[Visitor], Awaitable[None]]] = {
    "worker": as_worker,
    "application": as_application,
    "gateway": as_gateway,
    "operator": as_operator,
}


@pytest.mark.parametrize("role", ROLES)
async def test_these_rights_are_enough(server: Server, role: str):
    async with let_in(server, role) as line:
        await SCENES[role](line)
        await line.master.check()


@pytest.mark.parametrize("role", ["worker", "application", "gateway"])
async def test_the_user_of_a_namespace_may_do_what_its_workers_producers_and_people_do(server: Server, role: str):
    """The user that the operator makes, on every server."""
    ask(server, "FLUSHALL")
    ask(server, "SCRIPT", "FLUSH")
    everything = Worded(connect(server.url))
    user = tenant_user(NAMESPACE, "a-password-of-a-tenant")
    await set_user(everything, user.name, user.password, user.rules, user.optional)
    few = connect(url_for(server.url, user.name, user.password))
    try:
        line = Visitor(cast(Any, few), Line(everything, Lease(), Retention()))
        await SCENES[role](line)
        await line.master.check()
        assert await ask_alone(few, line.keys.meta, "WAIT", 0, 1, blocks=1) == 0
    finally:
        await few.aclose()
        await everything.aclose()


@pytest.mark.parametrize(("role", "right"), [(role, right) for role in ROLES for right in sorted(needed(role))])
async def test_one_right_less_is_not(redis_server: Server, role: str, right: str):
    async with let_in(redis_server, role, without=right) as line:
        with pytest.raises(RedisRefused, match=r"this Redis user lacks a permission: ACL SETUSER .*docs/how-to/redis\.md"):
            await SCENES[role](line)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Server]:
    with running_valkey(kind=Kind.VALKEY_9) as running:
        yield running


@pytest.mark.parametrize("role", ROLES)
async def test_a_user_may_be_bound_to_one_queue(redis_server: Server, role: str):
    """With the key patterns that the page has for it."""
    patterns = [f"~{{{NAMESPACE}:{QUEUE}}}:*", f"~{{{NAMESPACE}:{QUEUE}:*", f"~{{{NAMESPACE}}}:*"]
    assert "`~{shop:emails}:*` and, for its further partitions, `~{shop:emails:*`" in PAGE
    async with let_in(redis_server, role, keys=patterns) as line:
        line.of_one_queue = True
        await SCENES[role](line)
        with pytest.raises(RedisRefused, match="lacks a permission"):
            await Inspector(line.redis, NAMESPACE).schedules("another").look()


async def test_another_namespace_is_out_of_reach(server: Server):
    async with let_in(server, "worker") as line:
        stranger = Broker(line.redis, Keys("elsewhere", QUEUE))
        for call in (stranger.register(), stranger.enqueue([Admission(message("a"))])):
            with pytest.raises(RedisRefused, match="lacks a permission"):
                await call


async def test_in_a_cluster_three_more():
    rights = [f"+{command}" for command in sorted(needed("worker"))]
    with running_cluster(Kind.REDIS_7) as cluster:
        for node in cluster.masters:
            keys = [f"~{{{NAMESPACE}:*", f"~{{{NAMESPACE}}}:*"]
            ask(node, "ACL", "SETUSER", "w", "reset", "on", ">secret", *keys, *rights, "+cluster|slots", "+command", "+asking")
        everything, few = Worded(connect(cluster.url)), connect(cluster.url.replace("//", "//w:secret@"))
        try:
            await as_worker(Visitor(cast(Any, few), Line(everything, Lease(), Retention())))
            for node in cluster.masters:
                ask(node, "ACL", "SETUSER", "w", "-cluster|slots")
            late = connect(cluster.url.replace("//", "//w:secret@"))
            with pytest.raises(RedisRefused, match="lacks a permission"):
                await check_server(late)
            await late.aclose()
        finally:
            await few.aclose()
            await everything.aclose()
