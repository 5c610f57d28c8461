"""`stoker worker`: run the tasks of one queue or several."""

from typing import Annotated, Any

import typer

from stoker.cli.options import LogFormatOption, LogLevelOption, duration, size, variable
from stoker.errors import Invalid
from stoker.manifest.policies import Keep, KeepFor, Lease, RateLimit, Retention
from stoker.rules.announcement import is_template
from stoker.rules.partitions import MOST
from stoker.rules.retry import Jitter, Retry
from stoker.rules.shares import QueueWeight, parse_queues
from stoker.rules.units import Duration
from stoker.settings import DEFAULT_WORKER_PORT, ChildLimits, LogTasks, WorkerSettings
from stoker.worker.process.worker_command import Command, serve


def option(*flags: str, **settings: Any) -> Any:
    """A flag and the variable of the same name."""
    return typer.Option(*flags, envvar=variable(flags[0].removeprefix("--").replace("-", "_").upper()), **settings)


def time_option(*flags: str, **settings: Any) -> Any:
    """A flag that takes a duration such as 30s."""
    return option(*flags, parser=_seconds, metavar="DURATION", **settings)


def _seconds(value: str | float) -> float:
    # Defaults come through here as well, as numbers.
    return duration(value) if isinstance(value, str) else value


def size_option(*flags: str, **settings: Any) -> Any:
    """A flag that takes a size such as 512MiB."""
    return option(*flags, parser=size, metavar="SIZE", **settings)


MOST_QUEUES = 32
_defaults = WorkerSettings(queue="")
RETRIES, KEEPING, PROBES = "Retries and lost workers", "Retention", "Probes and metrics"
CHILDREN = 'Child processes, for tasks with executor="process"'


def worker(
    context: typer.Context,
    app: Annotated[str, typer.Argument(envvar=variable("APP"), help="Application, as module:attribute.", show_default=False)],
    queue: Annotated[
        list[str] | None,
        option("--queue", "-q", metavar="QUEUE[:WEIGHT]", help="Queue; repeat it for several. Default: the queues of the tasks."),
    ] = None,
    strict: Annotated[bool, option("--strict", help="Several queues: always the first that has tasks; no weights.")] = False,
    all_queues: Annotated[bool, option("--all-queues", help="The queues of the application's tasks.")] = False,
    redis_url: Annotated[str, option("--redis-url", help="Redis URL; default: the application's.")] = "",
    namespace: Annotated[str, option("--namespace", "-n", help="Namespace of the queue; default: the application's.")] = "",
    partitions: Annotated[
        int, option("--partitions", min=1, max=MOST, help="Redis slots that the queue is spread over; can only grow.")
    ] = _defaults.partitions,
    processes: Annotated[
        int,
        option("--processes", min=1, max=64, help="Worker processes, each with its own --concurrency."),
    ] = 1,
    concurrency: Annotated[int, option("--concurrency", "-c", min=1, max=1000, help="Tasks at once.")] = _defaults.concurrency,
    task_timeout: Annotated[float, time_option("--task-timeout", help="Default timeout of a task.")] = _defaults.task_timeout,
    drain_timeout: Annotated[
        float, time_option("--drain-timeout", help="After SIGTERM, how long running tasks may take to finish.")
    ] = _defaults.drain_timeout,
    max_retries: Annotated[int, option("--max-retries", min=0, rich_help_panel=RETRIES)] = _defaults.retry.max_retries,
    initial_delay: Annotated[float, time_option("--initial-delay", rich_help_panel=RETRIES)] = _defaults.retry.initial_delay,
    multiplier: Annotated[float, option("--multiplier", min=1, rich_help_panel=RETRIES)] = _defaults.retry.multiplier,
    max_delay: Annotated[float, time_option("--max-delay", rich_help_panel=RETRIES)] = _defaults.retry.max_delay,
    jitter: Annotated[Jitter, option("--jitter", rich_help_panel=RETRIES)] = _defaults.retry.jitter,
    lease: Annotated[
        float, time_option("--lease", rich_help_panel=RETRIES, help="Lease: how long a worker keeps its tasks without a heartbeat.")
    ] = _defaults.lease.duration,
    max_lost: Annotated[
        int, option("--max-lost", min=1, rich_help_panel=RETRIES, help="Bury a task after this many worker losses.")
    ] = _defaults.lease.max_lost,
    keep_succeeded: Annotated[float, time_option("--keep-succeeded", rich_help_panel=KEEPING)] = _defaults.retention.succeeded.age,
    keep_succeeded_count: Annotated[
        int, option("--keep-succeeded-count", min=0, rich_help_panel=KEEPING)
    ] = _defaults.retention.succeeded.count,
    keep_dead: Annotated[float, time_option("--keep-dead", rich_help_panel=KEEPING)] = _defaults.retention.dead.age,
    keep_dead_count: Annotated[int, option("--keep-dead-count", min=0, rich_help_panel=KEEPING)] = _defaults.retention.dead.count,
    keep_unclaimed: Annotated[
        float,
        time_option(
            "--keep-unclaimed", rich_help_panel=KEEPING, help="How long tasks that no worker knows wait before they are dead."
        ),
    ] = _defaults.retention.unclaimed.age,
    rate_limit: Annotated[
        int, option("--rate-limit", min=0, max=1_000_000, help="Tasks a second, across all workers; 0 = no limit.")
    ] = 0,
    rate_burst: Annotated[
        int, option("--rate-burst", min=0, max=1_000_000, help="Tasks allowed at once after idle time; 0 = as --rate-limit.")
    ] = 0,
    task_processes: Annotated[
        int, option("--task-processes", min=0, max=1000, rich_help_panel=CHILDREN, help="Maximum number; 0 = as --concurrency.")
    ] = _defaults.children.count,
    task_process_runs: Annotated[
        int, option("--task-process-runs", min=0, rich_help_panel=CHILDREN, help="Replace one after this many tasks; 0 = never.")
    ] = _defaults.children.max_runs,
    task_process_memory: Annotated[
        int,
        size_option("--task-process-memory", rich_help_panel=CHILDREN, help="Replace one that uses more; 0 = never."),
    ] = _defaults.children.max_memory,
    max_memory: Annotated[
        int, size_option("--max-memory", help="Drain and restart in place above this; 0 = never.")
    ] = _defaults.max_memory,
    max_tasks: Annotated[int, option("--max-tasks", min=0, help="Drain and restart in place after this many; 0 = never.")] = 0,
    threads: Annotated[
        int, option("--threads", min=0, max=1000, help="Threads for plain functions, of all queues together; 0 = as --concurrency.")
    ] = 0,
    burst: Annotated[bool, option("--burst", help="Work until the queues are empty, then exit with 0. For Jobs and CI.")] = False,
    host: Annotated[str, option("--host", rich_help_panel=PROBES)] = "127.0.0.1",
    port: Annotated[
        int, option("--port", min=0, max=65535, rich_help_panel=PROBES, help="0 = any free port.")
    ] = DEFAULT_WORKER_PORT,
    listen_fd: Annotated[
        int | None, option("--listen-fd", hidden=True, help="A listening socket passed by the parent process.")
    ] = None,
    template: Annotated[
        str,
        option("--template", hidden=True, help="Stands for workers that know the same tasks; default: a digest of these."),
    ] = "",
    name: Annotated[str, option("--name", help="Default: the host name.")] = "",
    reload: Annotated[bool, typer.Option("--reload/--no-reload", help="Restart when a source file changes (development).")] = False,
    check: Annotated[bool, typer.Option("--check", help="Import the application, list its tasks, exit.")] = False,
    log_format: LogFormatOption = "auto",
    log_level: LogLevelOption = "info",
    log_tasks: Annotated[
        LogTasks,
        option(
            "--log-tasks",
            rich_help_panel="Logs",
            help="Runs that have a line in the log. auto: failures, and up to 100 successes a second; then one summary a second.",
        ),
    ] = "auto",
) -> None:
    """Run the tasks of one queue or several. SIGTERM drains; a second SIGTERM requeues running tasks and exits."""
    if burst and (processes > 1 or reload):
        raise Invalid("--burst is for one process: without --processes and --reload. Run several Jobs instead")
    queues = _queues(queue or [], strict=strict, all_queues=all_queues)
    settings = WorkerSettings(
        queue=queues[0].name if len(queues) == 1 else "",
        queues=queues if len(queues) > 1 else (),
        strict=strict,
        app=app,
        redis_url=redis_url,
        namespace=namespace,
        partitions=partitions,
        concurrency=concurrency,
        task_timeout=task_timeout,
        drain_timeout=drain_timeout,
        retry=Retry(max_retries, initial_delay, multiplier, max_delay, jitter),
        lease=_lease(lease, max_lost),
        retention=Retention(
            Keep(Duration(keep_succeeded), keep_succeeded_count),
            Keep(Duration(keep_dead), keep_dead_count),
            KeepFor(Duration(keep_unclaimed)),
        ),
        rate_limit=RateLimit(rate_limit, rate_burst or rate_limit) if rate_limit else None,
        host=host,
        port=port,
        name=name,
        children=ChildLimits(task_processes, task_process_runs, task_process_memory),
        max_memory=max_memory,
        template=_template(template),
        listen_fd=listen_fd,
        log_tasks=log_tasks,
        burst=burst,
        max_tasks=max_tasks,
        threads=threads,
    )
    hear = context.obj or serve
    hear(Command(settings, processes, reload, check, log_format, log_level))


def _queues(texts: list[str], *, strict: bool, all_queues: bool) -> tuple[QueueWeight, ...]:
    if all_queues and texts:
        raise Invalid(f"--all-queues: give either that or --queue, not both (--queue {' --queue '.join(texts)})")
    queues = parse_queues(texts)
    if strict and any(":" in text for text in texts):
        raise Invalid("--strict: the order of the queues counts, so give them no weights")
    if strict and len(queues) < 2:
        raise Invalid("--strict: name the queues in their order: --strict --queue urgent --queue default")
    if len(queues) > MOST_QUEUES:
        raise Invalid(f"--queue: at most {MOST_QUEUES} queues, each waits on its own connection")
    return queues


def _template(text: str) -> str:
    if text and not is_template(text):
        raise Invalid(f"--template: {text!r} is not up to 64 letters, digits, dots, dashes and underscores")
    return text


def _lease(duration_: float, max_lost: int) -> Lease:
    try:
        return Lease(Duration(duration_), max_lost)
    except ValueError as error:
        raise Invalid(f"--lease: {error}") from error
