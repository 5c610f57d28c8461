"""The stack of `stoker up`, started and stopped in order: Redis, the gateway, the fleets."""

import asyncio
import fcntl
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from msgspec import Struct

from stoker.errors import Invalid
from stoker.local.embedded_redis import embedded_server, is_free
from stoker.local.supervisor import Supervisor
from stoker.manifest.task_queue import TaskQueue
from stoker.queue.reads.inspector import Inspector
from stoker.redis.connect import connect
from stoker.worker.system.managed_process import ManagedProcess
from stoker.worker.system.secrecy import RUNS_PROGRAMS, URL, hide

GATEWAY_TIMEOUT = 15.0
DEFAULT_PORT = 6379
"""The port of the default Redis URL."""


class Stack(Struct, frozen=True):
    """A running stack. `gateway_url` is empty without a gateway; the inspector's namespace is that of the first TaskQueue."""

    redis_url: str
    gateway_url: str
    supervisor: Supervisor
    inspector: Inspector


@asynccontextmanager
async def running_stack(queues: Sequence[TaskQueue], redis_url: str, port: int, data: Path) -> AsyncIterator[Stack]:
    """Run TaskQueues on this machine; on exit, every worker drains. Each has a namespace (`settled`).

    An empty `redis_url` starts a server whose data stays under `data`; port 0 means no gateway.
    Raises Invalid for an application that does not import, and a port or a folder in use; RedisUnavailable for a server that
    does not answer.
    """
    logs = data / "logs"
    async with AsyncExitStack() as cleanup:
        cleanup.enter_context(_locked(data))
        url = redis_url or await cleanup.enter_async_context(embedded_server(data / "redis", DEFAULT_PORT if port else 0))
        redis = connect(url)
        cleanup.push_async_callback(redis.aclose)
        namespace = queues[0].key_namespace
        inspector = Inspector(redis, namespace)
        await inspector.ping()
        environment, secret_url = {URL: url}, ""
        if any(queue.spec.worker.app.partition(":")[0] == RUNS_PROGRAMS for queue in queues):
            hide()
            secret_url = url
        supervisor = Supervisor(queues, redis, environment, logs, secret_url)
        await supervisor.check()
        if port:
            gateway = await _gateway(port, {**environment, "STOKER_NAMESPACE": namespace}, logs, secret_url)
            cleanup.push_async_callback(gateway.stop, GATEWAY_TIMEOUT)
        scaling = asyncio.create_task(supervisor.run())
        cleanup.push_async_callback(_stop, supervisor, scaling)
        yield Stack(url, f"http://127.0.0.1:{port}" if port else "", supervisor, inspector)


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Hold the lock of this folder: two servers on one append-only file would destroy it. Raises Invalid when it is taken."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Invalid(f"another stoker up keeps its data in {data}; give this one another folder with --data") from error
        yield


async def _gateway(port: int, environment: dict[str, str], logs: Path, secret_url: str) -> ManagedProcess:
    if not is_free(port):
        raise Invalid(f"port {port} is taken; choose another for the gateway with --port, or 0 for none")
    command = [sys.executable, "-m", "stoker", "gateway", "--host", "127.0.0.1", "--port", str(port)]
    gateway = await ManagedProcess.start("gateway", command, environment, logs / "gateway.log", secret_url=secret_url)
    give_up = time.monotonic() + GATEWAY_TIMEOUT
    while is_free(port):
        if not gateway.running or time.monotonic() > give_up:
            await gateway.stop(GATEWAY_TIMEOUT)
            raise Invalid(f"the gateway did not start: {gateway.log_tail()}")
        await asyncio.sleep(0.05)
    return gateway


async def _stop(supervisor: Supervisor, task: asyncio.Task[None]) -> None:
    supervisor.stop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
