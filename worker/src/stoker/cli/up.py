"""`stoker up`: run TaskQueues on one machine, with processes for pods."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stoker.cli.options import namespace as checked_namespace
from stoker.cli.options import variable
from stoker.local.manifest_file import load
from stoker.local.namespaces import settled
from stoker.manifest.task_queue import TaskQueue
from stoker.redis.url import shown_address
from stoker.settings import DEFAULT_GATEWAY_PORT, DEFAULT_NAMESPACE


def up(
    file: Annotated[Path, typer.Option("--file", "-f", envvar=variable("FILE"), help="Manifest with TaskQueues.")],
    redis_url: Annotated[
        str, typer.Option("--redis-url", envvar=variable("REDIS_URL"), help="Default: an embedded server.", show_default=False)
    ] = "",
    port: Annotated[
        int, typer.Option("--port", envvar=variable("PORT"), min=0, max=65535, help="Gateway port; 0 = no gateway.")
    ] = DEFAULT_GATEWAY_PORT,
    data: Annotated[Path, typer.Option("--data", envvar=variable("DATA"), help="Folder for data and logs.")] = Path(".stoker"),
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace",
            "-n",
            envvar=variable("NAMESPACE"),
            metavar="NAME",
            help="Namespace of the queues; default: the manifest's, else stoker.",
            callback=checked_namespace,
        ),
    ] = "",
) -> None:
    """Run TaskQueues on this machine: embedded Redis, worker processes, gateway, the same autoscaler. Ctrl-C drains."""
    asyncio.run(_up(settled(load(file), namespace), redis_url, port, data.resolve()))


async def _up(queues: Sequence[TaskQueue], redis_url: str, port: int, data: Path) -> None:
    from rich.console import Console

    from stoker.local.stack import running_stack
    from stoker.local.view import watch

    console = Console()
    asked = asyncio.Event()
    async with running_stack(queues, redis_url, port, data) as stack:

        def drain_or_abort() -> None:
            if asked.is_set():
                for fleet in stack.supervisor.fleets.values():
                    fleet.abort()
            asked.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, drain_or_abort)
        places = [f"redis {shown_address(stack.redis_url)}", f"logs {data / 'logs'}", "Ctrl-C drains"]
        if (others := sorted({queue.key_namespace for queue in queues})) != [DEFAULT_NAMESPACE]:
            places.insert(1, f"namespace {', '.join(others)}")
        if stack.gateway_url:
            places.insert(0, f"gateway {stack.gateway_url}/docs")
        console.print("  ·  ".join(places), soft_wrap=True, highlight=False, style="dim")
        await watch(stack.supervisor, asked, "", console)
        console.print("Draining. Press Ctrl-C again to requeue running tasks now.", style="dim")
