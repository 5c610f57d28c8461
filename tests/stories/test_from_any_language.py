"""Tasks from programs that know nothing of Stoker: the lines of docs/how-to/any-language.md, as they stand there."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from stoker import Stoker
from stoker.rules.states import TaskState
from tests.redis_servers import Server
from tests.stories.working import working
from tests.waiting import until

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/any-language.md"


async def shell(server: Server, commands: str) -> list[str]:
    """What the commands answer, line by line. They must succeed."""
    script = f'set -eu\nredis-cli() {{ command redis-cli -e -p {server.port} "$@"; }}\n{commands}'
    process = await asyncio.create_subprocess_exec("bash", "-c", script, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    return out.decode().split("\n")[:-1]


async def test_the_page_does_what_it_says(opened: Callable[[str], Stoker], own_valkey: Server) -> None:
    app = opened(own_valkey.url)
    sent: list[str] = []

    @app.task(queue="emails")
    async def send_email(to: str) -> None:
        sent.append(to.partition("@")[0])

    tasks, malformed, rights = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    entries = await shell(own_valkey, tasks)
    assert len(entries) == 4
    assert await ready_is(app, 4), "they are demand, though no worker is there"
    async with working(app, queue="emails", concurrency=1):
        await until(lambda: {"ada", "bob"} <= set(sent))
        assert sent[:2] == ["bob", "ada"], "the urgent one first"
        assert (await app.client.status("emails", "order-42")).state in {TaskState.RUNNING, TaskState.SUCCEEDED}
        await until(lambda: "cleo" in sent)
        assert await until(lambda: has_ended(app, f"inbox-{entries[2]}"))
        told = await app.client.status("emails", f"inbox-{entries[3]}")
        assert told.headers == {"tenant": "acme"}
        assert told.expires == int(entries[3].partition("-")[0]) + 600_000

        [entry] = await shell(own_valkey, malformed)
        await until(lambda: ready_is(app, 0))
        status = await app.client.status("emails", f"inbox-{entry}")
        assert status.state is TaskState.DEAD
        assert status.failure is not None
        assert "unknown fields tusk" in status.failure.message

        await shell(own_valkey, rights)
        await until(lambda: "dora" in sent)
    assert sorted(sent) == ["ada", "bob", "cleo", "dora", "eve"], "each of them once"


async def ready_is(app: Stoker, count: int) -> bool:
    [stats] = await app.client.inspector.stats(["emails"])
    return stats.ready == count


async def has_ended(app: Stoker, task_id: str) -> bool:
    return (await app.client.status("emails", task_id)).state is TaskState.SUCCEEDED
