"""One operator with many TaskQueues on one Redis and a real API server: how fast, how much, how quiet.

    benchmarks/taskqueues 100 1000 5000 [--json FILE]

For each number, a new API server (no nodes, so no pod starts), a new Redis and an operator with its default settings:

- reconcile: seconds from the operator's start until every TaskQueue has a Deployment, and a Ready and a ScalingActive condition
- rest: during half a minute afterwards, CPU, writes and reads of the API server
- restart: seconds until a second operator has decided about every queue, and what it reads and writes meanwhile
- wake: seconds from an enqueue until the Deployment asks for a worker; median and worst of 20 queues
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.operator.apiserver import ApiServer, running_api_server, unverified
from tests.operator.operating import Cluster, Operator, Queue, running_operator
from tests.redis_servers import Valkey, running_valkey

NAMESPACE, REST, WOKEN, AT_ONCE = "bench", 30.0, 20, 16
SETTINGS = {"STOKER_INTERVAL": "1s", "STOKER_RESYNC": "60s", "STOKER_TENANT_CREDENTIALS": "Provided", "STOKER_REDIS_TIMEOUT": "3s"}
LIMIT = 1800.0
_REQUEST = re.compile(r"apiserver_request_total\{(?P<labels>[^}]*)\} (?P<count>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
WRITES = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE"})


async def measure(queues: int, folder: Path) -> dict[str, float]:
    """The figures for this many TaskQueues."""
    with running_valkey() as redis, running_api_server(folder) as server:
        async with administrator(server) as cluster:
            names = await create(cluster, redis, queues)
            began = time.monotonic()
            with running_operator(server, redis.url, folder, **SETTINGS) as operator:
                figures = {"queues": queues, "reconcile_s": await converged(cluster, queues) - began}
                figures |= await reconciles(operator)
                figures |= await rest(cluster, operator)
            (folder / "second").mkdir()
            before, began = await requests(cluster), time.monotonic()
            with running_operator(server, redis.url, folder / "second", **SETTINGS) as operator:
                figures |= {"restart_s": await decided(operator, queues) - began}
                figures |= {f"restart_{kind}": count - before[kind] for kind, count in (await requests(cluster)).items()}
                figures |= await wakes(cluster, redis, names)
                return figures | {"rss_mb": resident(operator.running.pid)}


@asynccontextmanager
async def administrator(server: ApiServer) -> AsyncIterator[Cluster]:
    """A user who may do everything, in the namespace of the benchmark."""
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, verify=unverified(), timeout=60) as http:
        cluster = Cluster(http, NAMESPACE)
        await cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        yield cluster


async def create(cluster: Cluster, redis: Valkey, queues: int) -> list[str]:
    """The TaskQueues, before any operator runs."""
    await cluster.secret("redis", url=redis.url)
    names = [f"queue-{number}" for number in range(queues)]
    turn = asyncio.Semaphore(AT_ONCE)

    async def apply(name: str) -> None:
        async with turn:
            await cluster.apply(name, redis={"urlSecretRef": {"name": "redis"}})

    await asyncio.gather(*(apply(name) for name in names))
    return names


async def converged(cluster: Cluster, queues: int) -> float:
    """The moment at which every TaskQueue has a Deployment, and conditions that are True."""
    deadline = time.monotonic() + LIMIT
    while True:
        found = (await cluster.call("GET", cluster.path("taskqueues")))["items"]
        now = time.monotonic()
        if sum(map(settled, found)) == queues:
            made = (await cluster.call("GET", cluster.path("deployments")))["items"]
            if len(made) == queues:
                return now
        if now > deadline:
            raise SystemExit(f"{sum(map(settled, found))} of {queues} TaskQueues were served within {LIMIT:g} s")
        await asyncio.sleep(1)


def settled(queue: dict[str, Any]) -> bool:
    """Whether its status says that it is Ready and scaled."""
    true = {each["type"] for each in queue.get("status", {}).get("conditions", ()) if each["status"] == "True"}
    return {"Ready", "ScalingActive"} <= true


async def page(operator: Operator) -> str:
    """The operator's metrics."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{operator.port}", timeout=30) as http:
        return (await http.get("/metrics")).text


async def reconciles(operator: Operator) -> dict[str, float]:
    """How many there were, and the upper bound of the bucket in which 99 of 100 durations lie."""
    text = await page(operator)
    buckets = re.findall(r'stoker_reconcile_duration_seconds_bucket\{le="([^"]+)"\} (\S+)', text)
    total = float(buckets[-1][1])
    p99 = next(float(bound) for bound, count in buckets if float(count) >= 0.99 * total)
    return {"reconciles": total, "reconcile_p99_s": p99}


async def requests(cluster: Cluster) -> dict[str, float]:
    """Requests that the API server has answered, without the benchmark's own: reads and writes of what the operator uses."""
    text = (await cluster.http.get("/metrics")).text
    counts = {"reads": 0.0, "writes": 0.0}
    for found in _REQUEST.finditer(text):
        labels = dict(_LABEL.findall(found["labels"]))
        if labels.get("resource") not in {"taskqueues", "deployments", "secrets", "configmaps", "pods", "events"}:
            continue
        if labels["verb"] in WRITES:
            counts["writes"] += float(found["count"])
        elif labels["verb"] in {"GET", "LIST"}:
            counts["reads"] += float(found["count"])
    return counts


async def rest(cluster: Cluster, operator: Operator) -> dict[str, float]:
    """What the operator costs while nothing happens."""
    before, cpu = await requests(cluster), processor(operator.running.pid)
    await asyncio.sleep(REST)
    after, spent = await requests(cluster), processor(operator.running.pid) - cpu
    return {
        "rest_cpu_percent": 100 * spent / REST,
        "rest_writes": after["writes"] - before["writes"],
        "rest_reads": after["reads"] - before["reads"],
    }


async def wakes(cluster: Cluster, redis: Valkey, names: list[str]) -> dict[str, float]:
    """From the first task of an empty queue to the request for a worker."""
    took = [await wake(cluster, redis, name) for name in random.sample(names, min(WOKEN, len(names)))]
    return {"wake_median_s": statistics.median(took), "wake_worst_s": max(took)}


async def wake(cluster: Cluster, redis: Valkey, name: str) -> float:
    """Enqueue one task, and wait for the worker that it needs."""
    queue = Queue(redis.url, NAMESPACE, name)
    await asyncio.sleep(random.random())  # at any moment of the operator's round, not just after the last one
    began = time.monotonic()
    await queue.enqueue(1)
    while not (await cluster.get("deployments", f"{name}-worker"))["spec"]["replicas"]:
        if time.monotonic() - began > 60:
            raise SystemExit(f"{name} was not woken within 60 s")
        await asyncio.sleep(0.01)
    took = time.monotonic() - began
    await queue.close()
    return took


async def decided(operator: Operator, queues: int) -> float:
    """The moment at which it has decided about every queue twice."""
    deadline = time.monotonic() + LIMIT
    while sum(float(count) for count in re.findall(r"scaling_decisions_total\{[^}]*\} (\S+)", await page(operator))) < 2 * queues:
        if time.monotonic() > deadline:
            raise SystemExit(f"the second operator did not decide about {queues} queues within {LIMIT:g} s")
        await asyncio.sleep(0.5)
    return time.monotonic()


def processor(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """The most memory that a process has had, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    """Measure each number of queues, and print a table."""
    parser = argparse.ArgumentParser("taskqueues", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("queues", type=int, nargs="*", default=[100, 1000], help="numbers of TaskQueues")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    rows = []
    for queues in arguments.queues:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(asyncio.run(measure(queues, Path(folder))))
        print(", ".join(f"{name} {value:.4g}" for name, value in rows[-1].items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
