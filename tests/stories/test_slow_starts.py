"""An application that takes long to import: the worker's page is there before, and says so."""

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from stoker import Stoker
from stoker.rules.states import TaskState
from tests.redis_servers import free_port
from tests.stories.observing import probe
from tests.stories.working import worker_process
from tests.waiting import until

Thaw = Callable[[str], object]
STARTS_WITHIN = 60.0


@pytest.fixture
def thaw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Thaw:
    """Let the application load; with a text, its import fails with it."""
    monkeypatch.setenv("THAWED", str(tmp_path / "thawed"))
    return (tmp_path / "thawed").write_text


async def answers(port: int, path: str, status: int) -> bool:
    try:
        return (await probe(port, path))[0] == status
    except OSError:
        return False


async def test_a_worker_answers_while_its_application_is_loaded(redis_url: str, tmp_path: Path, thaw: Thaw) -> None:
    port = free_port()
    with worker_process(redis_url, tmp_path, "--port", str(port), app="glacier:app") as worker:
        await until(lambda: answers(port, "/livez", 200), STARTS_WITHIN)
        assert await probe(port, "/startz") == (503, "loading the application\n")
        assert await probe(port, "/readyz") == (503, "loading the application\n")
        assert await probe(port, "/metrics") == (200, "")
        thaw("")
        await until(lambda: answers(port, "/startz", 200), STARTS_WITHIN)
        await until(lambda: answers(port, "/readyz", 200), STARTS_WITHIN)
        assert "stoker_worker_slots" in (await probe(port, "/metrics"))[1]
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0


async def test_a_drain_while_the_application_is_loaded_holds(app: Stoker, redis_url: str, tmp_path: Path, thaw: Thaw) -> None:
    """Nothing runs yet, so it answers at once: a pod that is deleted while it starts does not wait."""

    @app.task()
    async def calve() -> None: ...

    handle = await calve.enqueue()
    port = free_port()
    with worker_process(redis_url, tmp_path, "--port", str(port), app="glacier:app") as worker:
        await until(lambda: answers(port, "/livez", 200), STARTS_WITHIN)
        assert await probe(port, "/drain", "POST") == (200, "ok\n")
        thaw("")
        await until(lambda: worker.said("worker started"), STARTS_WITHIN)
        await until(lambda: worker.said("quiet: no more tasks are taken"))
        assert (await probe(port, "/readyz"))[0] == 503
        assert (await handle.status()).state is TaskState.READY
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0


async def test_stopped_while_its_application_is_loaded_a_worker_ends_at_once(redis_url: str, tmp_path: Path, thaw: Thaw) -> None:
    port = free_port()
    with worker_process(redis_url, tmp_path, "--port", str(port), app="glacier:app") as worker:
        await until(lambda: answers(port, "/livez", 200), STARTS_WITHIN)
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == -signal.SIGTERM


async def test_a_taken_port_is_named_before_the_application_is_loaded(redis_url: str, tmp_path: Path, thaw: Thaw) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with worker_process(redis_url, tmp_path, "--port", str(port), app="glacier:app") as worker:
            assert await worker.exit_code() == 1
    assert f"cannot listen on 127.0.0.1:{port}" in (tmp_path / "worker.log").read_text()


async def test_a_group_is_not_ready_until_a_member_has_loaded_the_application(redis_url: str, tmp_path: Path, thaw: Thaw) -> None:
    port = free_port()
    with worker_process(redis_url, tmp_path, "--port", str(port), "--processes", "2", app="glacier:app") as group:
        await until(lambda: answers(port, "/startz", 200), STARTS_WITHIN)
        assert await probe(port, "/readyz") == (503, "starting; starting\n")
        thaw("")
        await until(lambda: answers(port, "/readyz", 200), STARTS_WITHIN)
        group.signal(signal.SIGTERM)
        assert await group.exit_code() == 0


async def test_a_group_whose_application_fails_to_load_gives_up(redis_url: str, tmp_path: Path, thaw: Thaw) -> None:
    """Its pages have answered by then, but none has worked."""
    port = free_port()
    with worker_process(redis_url, tmp_path, "--port", str(port), "--processes", "2", app="glacier:app") as group:
        await until(lambda: answers(port, "/startz", 200), STARTS_WITHIN)
        await asyncio.sleep(2.5)  # beyond the start of its members and their first probe
        thaw("too warm")
        assert await group.exit_code() == 1
    assert "before any could work" in (tmp_path / "worker.log").read_text()
