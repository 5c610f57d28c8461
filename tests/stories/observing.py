"""What stories see from outside of a worker: its pages and metrics, its processes, what its tasks wrote down."""

import asyncio
import http.client
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from stoker import Stoker
from stoker.rules.states import TaskState


async def probe(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(get)


async def samples(port: int) -> dict[str, float]:
    """The worker's metrics as Prometheus reads them: `name{label=value,...}` -> value."""
    status, text = await probe(port, "/metrics")
    assert status == 200
    return {
        f"{sample.name}{{{','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))}}}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def processes() -> Iterator[tuple[int, int, str]]:
    """Every living process: pid, parent, command line."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                command = (folder / "cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                continue
            if state != "Z":
                yield int(folder.name), int(parent), command


def living(pids: set[int]) -> set[int]:
    return {pid for pid, _, _ in processes()} & pids


async def is_running(app: Stoker, task_id: str) -> bool:
    return (await app.client.status("default", task_id)).state is TaskState.RUNNING


async def notes(redis: Redis) -> list[str]:
    return list(await redis.lrange("bakery:notes", 0, -1))  # type: ignore[misc]
