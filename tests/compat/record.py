"""Keep what the present version writes, so that later ones can be held to it: make one record with every release.

    python tests/compat/record.py 0.1.0        writes tests/compat/records/0.1.0/: the wheel, and queue.json

queue.json is a queue in the middle of its work, as commands could write it into any server: two workers were killed with kill -9,
and there is a task in every state that there is. The server keeps RECORDED_AT's time, so that a test may go on
where the record ends.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))  # it is a script as well

import redis  # noqa: E402

from tests.proof.movable import NEW_YEAR_2027, movable_server  # noqa: E402
from tests.waiting import until  # noqa: E402

RECORDS = HERE / "records"
RECORDED_AT = NEW_YEAR_2027
INBOX = "{stoker:journal}:inbox"
PREFIX = "{stoker:journal}:"


def records() -> list[Path]:
    """All records, oldest first."""
    return sorted(path.parent for path in RECORDS.glob("*/queue.json"))


def now() -> int:
    """Real time, ms."""
    return time.time_ns() // 1_000_000


def environment(source: Path, url: str) -> dict[str, str]:
    """What a process of the version in the folder `source` needs. It signs its entries in the journal with the folder's name."""
    path = os.pathsep.join([str(source), str(HERE)])
    own = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    return {**own, "PYTHONPATH": path, "STOKER_REDIS_URL": url, "JOURNALIST": source.name}


def run(source: Path, url: str, *command: str) -> None:
    """A program of the version in `source`, to its good end."""
    subprocess.run([sys.executable, *command], env=environment(source, url), cwd=HERE, check=True, stdout=subprocess.DEVNULL)


def worker(source: Path, url: str, *flags: str) -> "subprocess.Popen[bytes]":
    """A worker of the version in `source`."""
    options = ["--queue", "journal", "--port", "0", "--lease", "1s", "--drain-timeout", "5s", *flags]
    command = [sys.executable, "-m", "stoker", "worker", "journal:app", *options]
    return subprocess.Popen(command, env=environment(source, url), cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def snapshot(client: "redis.Redis[str]") -> dict[str, Any]:
    """All keys of the queue: their types and what is in them."""
    read: dict[str, Callable[[str], Any]] = {
        "hash": client.hgetall,
        "zset": lambda key: [[member, repr(score)] for member, score in client.zrange(key, 0, -1, withscores=True)],
        "list": lambda key: client.lrange(key, 0, -1),
        "set": lambda key: sorted(client.smembers(key)),
        "stream": lambda key: [[entry, fields] for entry, fields in client.xrange(key)],
        "string": client.get,
    }
    kinds = {key: str(client.type(key)) for key in sorted(client.keys("*stoker*"))}
    return {key: [kind, read[kind](key)] for key, kind in kinds.items()}


def restore(client: "redis.Redis[str]", keys: dict[str, Any]) -> None:
    """Write a snapshot into an empty server."""
    for key, (kind, content) in keys.items():
        match kind:
            case "hash":
                client.hset(key, mapping=content)
            case "zset":
                client.execute_command("ZADD", key, *(word for member, score in content for word in (score, member)))
            case "list":
                client.rpush(key, *content)
            case "set":
                client.sadd(key, *content)
            case "stream":
                for entry, fields in content:
                    client.xadd(key, fields, id=entry)
            case _:
                client.set(key, content)


async def record(source: Path) -> dict[str, Any]:
    """Play the three acts with the version in `source`."""
    with movable_server(durable=False) as (server, clock):
        ahead = RECORDED_AT - now()
        clock.run(ahead)
        with redis.Redis.from_url(server.url, decode_responses=True) as client:

            def fill(act: str) -> None:
                run(source, server.url, "journal.py", "fill", act)

            def holds(place: str, *ids: str) -> bool:
                return set(ids) <= set(client.zrange(PREFIX + place, 0, -1))

            fill("one")
            first = worker(source, server.url, "--name", "first")
            await until(lambda: holds("done", "kept") and holds("scheduled", "retried") and holds("dead", "dead"))
            await until(lambda: holds("leases", "suspect"))
            kill(first)
            fill("two")
            second = worker(source, server.url, "--name", "second", "--concurrency", "3")
            await until(lambda: holds("leases", "running", "keyed", "other") and holds("parked", "parked"))
            await until(lambda: holds("ready", "suspect"))
            kill(second)
            fill("three")
            client.xadd(INBOX, {"task": "write", "payload": '{"line": "from outside"}', "id": "inbox", "priority": "1"})
            run(source, server.url, "-m", "stoker", "pause", "--queue", "journal")
            return {"ended": now() + ahead, "keys": without_paths(snapshot(client))}


def without_paths(keys: dict[str, Any]) -> dict[str, Any]:
    """Tracebacks name the folders of the machine on which they were recorded."""
    shortened: dict[str, Any] = json.loads(re.sub(r'(File [\\]+")/[^"]*/', r"\1", json.dumps(keys)))
    return shortened


def kill(process: "subprocess.Popen[bytes]") -> None:
    """As a machine that loses its power."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def main() -> None:
    """Make the record of this checkout, or of another one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the version, or what it is called until it has one")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="a checkout of the version to be recorded")
    chosen = parser.parse_args()
    folder = RECORDS / chosen.name
    folder.mkdir(parents=True, exist_ok=True)
    build = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(folder), str(chosen.checkout / "worker")]
    subprocess.run(build, check=True)
    (folder / ".gitignore").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as home:
        source = unpacked(folder, Path(home))
        (folder / "queue.json").write_text(json.dumps(asyncio.run(record(source)), indent=1, sort_keys=True) + "\n")


def unpacked(record: Path, folder: Path) -> Path:
    """The source of a recorded version, under the record's name."""
    [wheel] = record.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / record.name)
    return folder / record.name


if __name__ == "__main__":
    main()
