"""Processes in peers' environments: the worker under test, and the enqueuing side driven by lines of JSON."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from stoker_bench.environments import BENCHMARKS, interpreter

STOP_LIMIT, REPORT_LIMIT = 5.0, 1800.0
MEGABYTE = 1_000_000


class Failed(Exception):
    """A peer did not do what was asked; the measurement does not count."""


class Worker:
    """A peer's worker, all its processes."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def check(self) -> None:
        """Raises Failed when it has ended."""
        if self._process.poll() is not None:
            raise Failed(f"the worker ended with {self._process.returncode}: ...{self._log.read_text(errors='replace')[-600:]}")

    def memory(self, process: int) -> tuple[float, float]:
        """Resident megabytes: of the process that runs the tasks, and of all processes together."""
        root = psutil.Process(self._process.pid)
        everyone = [root, *root.children(recursive=True)]
        return psutil.Process(process).memory_info().rss / MEGABYTE, sum(each.memory_info().rss for each in everyone) / MEGABYTE


@contextmanager
def worker(peer: str, environment: Mapping[str, str], folder: Path) -> Iterator[Worker]:
    """Start a peer's worker; stop it and what it started."""
    log = folder / "worker.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            _command("work", peer), env=_environment(environment), stdout=out, stderr=out, cwd=folder, start_new_session=True
        )
    try:
        yield Worker(process, log)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            # Its own session, so this reaches what it forked and nobody else.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_LIMIT)


class Producer:
    """The enqueuing side of a peer."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def answer(self) -> dict[str, Any]:
        """The next answer. Raises Failed when it ended instead."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"the producer ended: ...{self._log.read_text(errors='replace')[-600:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def do(self, verb: str, **options: Any) -> dict[str, Any]:
        """Run one verb of `stoker_bench.child` and return its answer."""
        assert self._process.stdin
        print(json.dumps({"do": verb, **options}), file=self._process.stdin, flush=True)
        return self.answer()


@contextmanager
def producer(peer: str, environment: Mapping[str, str], folder: Path) -> Iterator[Producer]:
    """Start the enqueuing side of a peer, connected."""
    log = folder / "producer.log"
    with log.open("wb") as err:
        process = subprocess.Popen(
            _command("produce", peer),
            env=_environment(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            cwd=folder,
        )
    try:
        started = Producer(process, log)
        started.answer()
        yield started
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(BrokenPipeError):
                    pipe.close()


def report(module: str, environment: Mapping[str, str], peer: str, *arguments: str) -> Any:
    """Run a module of this package in a peer's environment and return the JSON that it prints."""
    command = [str(interpreter(peer)), "-m", module, *arguments]
    try:
        done = subprocess.run(command, env=_environment(environment), capture_output=True, text=True, timeout=REPORT_LIMIT)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{module} of {peer} did not end within {REPORT_LIMIT:.0f} s") from error
    if done.returncode:
        raise Failed(f"{module} of {peer} failed: ...{done.stderr[-600:]}")
    return json.loads(done.stdout)


def _command(verb: str, peer: str) -> list[str]:
    return [str(interpreter(peer)), "-m", "stoker_bench.child", verb, peer]


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STOKER_", "PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "PYTHONPATH": str(BENCHMARKS), **extra}
