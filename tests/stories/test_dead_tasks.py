"""A task that is dead for good: handlers that are told of it, and links of one call."""

from collections.abc import Iterator

import pytest

from stoker import Context, Dead, DeadTask, Invalid, Stoker, Unique, chain, group
from stoker.app.app import application_of
from stoker.app.on_dead import hooks_of
from stoker.rules.schedule import cron
from stoker.testing import Server, run


@pytest.fixture(scope="module")
def kit_server() -> Iterator[Server]:
    with Server() as server:
        yield server


async def test_on_dead_is_enqueued_with_the_story_for_each_death(app: Stoker, kit_server: Server) -> None:
    stories: list[DeadTask] = []

    @app.task(queue="ops")
    async def page(dead: DeadTask) -> None:
        stories.append(dead)

    @app.task(on_dead=page, retry=1)
    async def charge(order: int) -> None:
        raise ConnectionError("the bank does not answer")

    async with run(app, kit_server) as kit:
        handle = await charge.enqueue(7)
        await kit.run_for(3600)
        [story] = stories
        assert (story.id, story.task, story.queue, story.cause, story.attempts) == (handle.id, "charge", "default", "failed", 2)
        assert (story.arguments, story.failure.type, "the bank" in story.failure.traceback) == (
            {"order": 7},
            "ConnectionError",
            True,
        )
        [handler] = kit.enqueued(page)
        assert f"its death is handled by page {handler.id} in ops" in (await handle.explain()).text

        await app.client.inspector.redrive("default", [handle.id])
        await kit.run_for(3600)
        assert [each.id for each in stories] == [handle.id] * 2


async def test_the_handler_of_the_application_takes_what_has_none_and_handles_no_handler(app: Stoker, kit_server: Server) -> None:
    told: list[str] = []

    @app.on_dead
    @app.task()
    async def page(dead: DeadTask) -> None:
        told.append(dead.task)
        raise Dead("the pager is broken")

    @app.task()
    async def own(dead: DeadTask) -> None:
        told.append(f"own {dead.task}")

    @app.task(on_dead="own")
    async def charge() -> None:
        raise Dead("no")

    @app.task(schedule=cron("0 0 * * *"))
    async def nightly() -> None:
        raise Dead("no")

    async with run(app, kit_server) as kit:
        await charge.enqueue()
        await charge.enqueue()
        await kit.run_until_idle()
        await kit.run_for(24 * 3600)
        assert sorted(told) == ["nightly", "own charge", "own charge"]
        late = await charge.options(expires=1).enqueue()
        kit.clock.advance(2)
        await kit.run_until_idle()
        assert (await late.status()).expired
        assert len(told) == 3


async def test_links_of_one_call(app: Stoker, kit_server: Server) -> None:
    told: list[object] = []

    @app.task()
    async def note(result: object, *, by: str = "") -> None:
        told.append((result if not isinstance(result, dict) else result["id"], by))

    @app.task(retry=0)
    async def divide(a: int, b: int) -> float:
        return a / b

    async with run(app, kit_server) as kit:
        linked = divide.options(on_success=[note.piped(by="yes"), note.prepare(0, by="also")], on_failure=note.piped(by="no"))
        good, bad = await linked.enqueue(4, 2), await linked.enqueue(1, 0)
        await kit.run_until_idle()
        assert sorted(map(str, told)) == sorted(map(str, [(2.0, "yes"), (0, "also"), (bad.id, "no")]))
        assert kit.assert_succeeded(good) == 2
        told.clear()

        # In a chain they begin beside the next link; in a group the first death alone is handled.
        await chain(linked.prepare(4, 2), note.piped(by="next")).enqueue()
        await group(divide.prepare(1, 0), divide.prepare(2, 0), on_failure=note.piped(by="group")).enqueue()
        await kit.run_until_idle()
        assert sorted(by for _, by in told) == ["also", "group", "next", "yes"]  # type: ignore[misc]


async def test_a_run_knows_whether_it_is_its_last(app: Stoker, kit_server: Server) -> None:
    seen: list[tuple[int, int, bool]] = []

    @app.task(retry=3)
    async def fetch(ctx: Context) -> None:
        seen.append((ctx.attempt, ctx.max_retries, ctx.last_attempt))
        raise ConnectionError

    async with run(app, kit_server) as kit:
        await fetch.options(retry=1).enqueue()
        await kit.run_for(3600)
    assert seen == [(1, 1, False), (2, 1, True)]


async def test_what_cannot_handle_a_death_is_refused(app: Stoker, kit_server: Server) -> None:
    async def announces() -> None:
        async with run(app, kit_server) as kit:
            await kit.run_until_idle()

    @app.task()
    async def word(text: str) -> None: ...

    @app.task(on_dead="nothing")
    async def charge() -> None: ...

    with pytest.raises(Invalid, match="names 'nothing', and shop declares no task of that name"):
        await announces()
    with pytest.raises(Invalid, match="single tasks"):
        charge.options(on_failure=chain(word.prepare("a"), word.prepare("b"))).prepare()
    with pytest.raises(Invalid, match="no id or key of its own"):
        charge.options(on_success=word.options(id="a").prepare("a")).prepare()
    with pytest.raises(Invalid, match="write it above"):
        app.on_dead(lambda dead: None)  # type: ignore[type-var]
    other = Stoker("other")

    @other.on_dead
    @other.task()
    async def wrong(dead: int) -> None: ...

    with pytest.raises(Invalid, match="its one argument is a DeadTask"):
        hooks_of(application_of(other))

    third = Stoker("third")

    @third.on_dead
    @third.task(unique=Unique())
    async def alone(dead: DeadTask) -> None: ...

    with pytest.raises(Invalid, match="is unique, and handles dead tasks"):
        hooks_of(application_of(third))
