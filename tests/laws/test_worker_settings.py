"""What a manifest says reaches the worker: the operator writes variables, the command line reads the same values."""

from typing import Any

import msgspec
import pytest
import typer
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stoker import Stoker
from stoker.cli import build
from stoker.manifest.task_queue import TaskQueue, parse
from stoker.rules.units import format_duration
from stoker.settings import PREFIX, WorkerSettings, worker_environment
from stoker.worker.process.worker_command import Command

ELSEWHERE = {"REDIS_URL", "HOST", "PORT", "NAME", "LOG_FORMAT", "LOG_LEVEL", "LOG_TASKS"}
ELSEWHERE |= {
    "TASK_PROCESSES",
    "TASK_PROCESS_RUNS",
    "TASK_PROCESS_MEMORY",
    "MAX_MEMORY",
    "LISTEN_FD",
    "TEMPLATE",
    "BURST",
    "MAX_TASKS",
    "THREADS",
    "STRICT",
    "ALL_QUEUES",
}
"""Settings of a process, not of a TaskQueue."""


def queue_of(**parts: Any) -> TaskQueue:
    spec = {"worker": {"app": "shop.tasks:app"}, **parts}
    return parse({"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": "emails"}, "spec": spec})


def worker_command() -> Any:
    return typer.main.get_command(build()).commands["worker"]  # type: ignore[attr-defined]


def settings_read_from(environment: dict[str, str]) -> WorkerSettings:
    """The settings that `stoker worker` starts with in this environment, its application without a namespace of its own."""
    heard: list[Command] = []
    with pytest.MonkeyPatch.context() as variables:
        for name, value in environment.items():
            variables.setenv(name, value)
        worker_command().main(["--port", "0"], standalone_mode=False, obj=heard.append)
    settings = heard[0].settings
    return settings if settings.namespace else msgspec.structs.replace(settings, namespace=Stoker("shop").namespace)


def test_every_variable_that_is_written_is_a_flag_that_is_read() -> None:
    read = {variable for parameter in worker_command().params for variable in _variables(parameter)}
    assert set(worker_environment(queue_of(), "stoker")) <= read


def test_every_flag_of_a_queue_is_written() -> None:
    read = {variable for parameter in worker_command().params for variable in _variables(parameter)}
    assert read - set(worker_environment(queue_of(), "stoker")) == {PREFIX + name for name in ELSEWHERE}


def test_every_variable_is_named_after_its_flag() -> None:
    for parameter in worker_command().params:
        for variable in _variables(parameter):
            assert variable == PREFIX + parameter.name.upper()


def test_a_worker_without_flags_has_the_defaults_of_a_manifest_without_fields() -> None:
    plain = settings_read_from({"STOKER_APP": "shop.tasks:app", "STOKER_QUEUE": "emails"})
    written = settings_read_from(worker_environment(queue_of(), "stoker"))
    assert plain == written


durations = st.integers(1, 10**8).map(lambda milliseconds: format_duration(milliseconds / 1000))
counts = st.integers(0, 10_000_000)
paces = st.integers(1, 1_000_000)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    retry=st.fixed_dictionaries(
        {
            "maxRetries": st.integers(0, 1000),
            "initialDelay": durations,
            "multiplier": st.floats(1, 100).map(str),
            "maxDelay": durations,
            "jitter": st.sampled_from(["Full", "None"]),
        }
    ),
    lease=st.fixed_dictionaries({"duration": st.integers(1, 10_000).map("{}s".format), "maxLost": st.integers(1, 100)}),
    retention=st.fixed_dictionaries(
        {kind: st.fixed_dictionaries({"age": durations, "count": counts}) for kind in ("succeeded", "dead")}
    ),
    concurrency=st.integers(1, 1000),
    timeout=durations,
    rate_limit=st.none() | st.fixed_dictionaries({"perSecond": paces, "burst": paces}),
)
def test_what_the_manifest_says_is_what_the_worker_does(
    retry: Any, lease: Any, retention: Any, concurrency: int, timeout: str, rate_limit: Any
) -> None:
    worker = {"app": "shop.tasks:app", "concurrency": concurrency, "taskTimeout": timeout, "drainTimeout": timeout}
    queue = queue_of(worker=worker, retry=retry, lease=lease, retention=retention, rateLimit=rate_limit, queue={"name": "mail"})
    read = settings_read_from(worker_environment(queue, "shop"))
    spec = queue.spec
    assert (read.queue, read.namespace, read.concurrency) == ("mail", "shop", concurrency)
    assert (read.task_timeout, read.drain_timeout) == (spec.worker.task_timeout, spec.worker.drain_timeout)
    assert read.retry == spec.retry.policy()
    assert read.lease == spec.lease
    assert read.retention == spec.retention
    assert read.rate_limit == spec.rate_limit


def _variables(parameter: Any) -> list[str]:
    envvar = parameter.envvar
    return [envvar] if isinstance(envvar, str) else list(envvar or [])
