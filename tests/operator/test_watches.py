"""A watch that has ended or is deaf is noticed, and all of them begin anew."""

import asyncio
import os
import signal
from collections.abc import Collection
from typing import Any

import kopf
import pytest

from stoker_operator.state.ref import Ref
from stoker_operator.state.witness import PATIENCE, Listed, Witness
from stoker_operator.watch import handlers, supervisor
from stoker_operator.watch.supervisor import RESOURCES, Supervisor
from tests.operator.operating import until

EMAILS, IMAGES = Listed(Ref("shop", "emails"), "uid-1", 1), Listed(Ref("shop", "images"), "uid-2", 3)


def test_what_a_list_shows_and_no_watch_tells_of_means_deaf() -> None:
    witness = Witness()
    witness.told("uid-1", 1)
    witness.listed([EMAILS, IMAGES], 100.0)
    assert not witness.heard_all
    assert witness.deaf(100.0 + PATIENCE) is None
    witness.listed([EMAILS, IMAGES], 105.0)  # another list does not start the patience again
    assert witness.deaf(100.1 + PATIENCE) == IMAGES.ref
    witness.told("uid-2", 2)  # of an earlier version
    assert witness.deaf(100.1 + PATIENCE) == IMAGES.ref
    witness.told("uid-2", 3)
    assert witness.deaf(1000.0) is None
    assert witness.heard_all


def test_a_deleted_one_needs_no_event_and_an_edit_needs_its_own() -> None:
    witness = Witness()
    witness.listed([EMAILS], 0.0)
    witness.listed([], 1.0)
    assert witness.heard_all
    witness.told("uid-1", 1)
    witness.listed([EMAILS._replace(generation=2)], 2.0)
    assert witness.deaf(2.1 + PATIENCE) == EMAILS.ref


def test_watches_that_begin_anew_tell_of_everything_again() -> None:
    witness = Witness()
    witness.listed([EMAILS], 0.0)
    witness.told("uid-1", 1)
    witness.begin(50.0)
    assert not witness.heard_all
    assert witness.deaf(50.1 + PATIENCE) == EMAILS.ref


class Kopf:
    """Stands for kopf: so many watchers live in each life of it; a life may end by an exception."""

    def __init__(self, *lives: int | Exception, deaf: int = 0) -> None:
        self._lives = list(lives)
        self._deaf = deaf  # it does not hear that it should stop, and then this many cancellations
        self.namespaces: list[Collection[str]] = []
        self.up, self.released = asyncio.Event(), asyncio.Event()

    async def __call__(self, namespaces: Collection[str], stop: asyncio.Event) -> None:
        life = self._lives[min(len(self.namespaces), len(self._lives) - 1)]
        self.namespaces.append(namespaces)
        if isinstance(life, Exception):
            raise life
        watchers = [asyncio.create_task(asyncio.Event().wait(), name=f"watcher for resource {at}") for at in range(life)]
        self.up.set()
        try:
            await (asyncio.Event() if self._deaf else stop).wait()
        except asyncio.CancelledError:
            if self._deaf > 1:
                await self.released.wait()
            raise
        finally:
            for each in watchers:
                each.cancel()


class Run:
    """A supervisor at work, with a clock that the test moves."""

    def __init__(self, kopf: Kopf, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.001)
        monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.001)
        self.now = 0.0
        self.allowed: Collection[str] | None = ()
        self.ready = asyncio.Event()
        self.witness = Witness()
        self.kopf = kopf
        self.looks = 0
        self._supervisor = Supervisor(kopf, self.witness, lambda: self.allowed, self.ready.set, self.look, lambda: self.now)
        self.running = asyncio.create_task(self._supervisor.run())

    def look(self) -> None:
        self.looks += 1

    async def lives(self, count: int) -> None:
        async def begun() -> bool:
            return len(self.kopf.namespaces) >= count

        await until(begun)

    async def stopped(self) -> None:
        """As kubelet stops it."""
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            await self.running


@pytest.mark.parametrize("first", [RecursionError("deep"), RESOURCES - 1, 0], ids=["ended", "one has ended", "none began"])
async def test_watches_begin_anew(first: int | Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(Kopf(first, RESOURCES), monkeypatch)
    await run.lives(1)
    run.now = supervisor.START_SECONDS + 1
    await run.lives(2)
    await asyncio.wait_for(run.ready.wait(), 10)
    await run.stopped()
    assert len(run.kopf.namespaces) == 2


async def test_a_deaf_watch_begins_anew_and_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(Kopf(RESOURCES), monkeypatch)
    await run.lives(1)
    run.witness.listed([EMAILS], run.now)
    run.now = PATIENCE + 1
    await run.lives(2)
    run.witness.told("uid-1", 1)
    await asyncio.wait_for(run.ready.wait(), 10)
    await run.stopped()


async def test_between_two_lives_is_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that refuses each watch is not asked without end."""
    run = Run(Kopf(RecursionError("deep")), monkeypatch)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 100.0)
    await run.lives(1)

    async def looked() -> bool:
        return run.looks > 0

    await until(looked)
    assert len(run.kopf.namespaces) == 1
    await run.stopped()


async def test_kopf_that_does_not_hear_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.01)
    run = Run(Kopf(RESOURCES - 1, RESOURCES, deaf=1), monkeypatch)
    await run.lives(1)
    run.now = supervisor.START_SECONDS + 1
    await run.lives(2)
    await asyncio.wait_for(run.ready.wait(), 10)
    await run.stopped()


async def test_kopf_that_cannot_be_stopped_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them would work against each other."""
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.01)
    run = Run(Kopf(RESOURCES - 1, deaf=2), monkeypatch)
    await run.lives(1)
    run.now = supervisor.START_SECONDS + 1
    with pytest.raises(RuntimeError, match="kopf has not stopped"):
        await asyncio.wait_for(run.running, 10)
    run.kopf.released.set()


async def test_a_namespace_that_comes_and_goes_leaves_the_others_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(Kopf(2 * RESOURCES, RESOURCES, 2 * RESOURCES), monkeypatch)
    run.allowed = ("a", "b")
    for allowed, lives in ((("a", "b"), 1), (("a",), 2), (("a", "b"), 3)):
        run.allowed = allowed
        await run.lives(lives)
    run.allowed = None  # no rights at all: it waits, and kopf is not started for all namespaces

    async def at_rest() -> bool:
        return supervisor.watchers() == 0

    await until(at_rest)
    assert run.kopf.namespaces == [("a", "b"), ("a",), ("a", "b")]
    looks = run.looks

    async def looks_on() -> bool:
        return run.looks > looks + 1

    await until(looks_on)  # to wait for rights is no reason for a restart
    await run.stopped()


def test_in_a_pod_kopf_goes_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the operator's own client: without the cluster's DNS it would be deaf."""
    monkeypatch.setattr(handlers, "in_cluster_address", lambda: "https://[fd00::1]:443")
    monkeypatch.setattr(
        kopf, "login_with_service_account", lambda **_: kopf.ConnectionInfo(server="https://kubernetes.default.svc")
    )
    account: Any = handlers._login_by_address(settings=kopf.OperatorSettings())
    assert account.server == "https://[fd00::1]:443"
