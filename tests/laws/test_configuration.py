"""Options by pattern: which of several decides. The call, the declaration, the most specific pattern, the default."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stoker import Concurrency, Invalid, Retry, Stoker, every
from stoker.app.app import application_of
from stoker.manifest.task_queue import parse
from stoker.task.configuration import Configuration


def configured(*rules: tuple[str, dict[str, Any]]) -> Configuration:
    found = Configuration()
    for pattern, options in rules:
        found = found.with_rule(pattern, options)
    return found


@pytest.mark.parametrize(
    ("patterns", "decides"),
    [
        pytest.param(["*", "reports.*"], "reports.*", id="more of the name"),
        pytest.param(["reports.*", "*"], "reports.*", id="whatever the order"),
        pytest.param(["reports.daily", "reports.dail*"], "reports.daily", id="the whole name"),
        pytest.param(["reports.*", "*.daily"], "reports.*", id="more characters"),
        pytest.param(["*.daily", "repo?ts.*"], "repo?ts.*", id="a question mark is no character"),
        pytest.param(["reports.da*", "reports.*ly"], "reports.*ly", id="of two alike the later"),
        pytest.param(["reports.*", "Reports.daily"], "reports.*", id="case counts"),
        pytest.param(["report", "reports"], None, id="no part of a name is the name"),
    ],
)
def test_the_most_specific_pattern_decides(patterns: list[str], decides: str | None) -> None:
    options = configured(*[(pattern, {"priority": at}) for at, pattern in enumerate(patterns)]).of("reports.daily")
    assert options.get("priority") == (None if decides is None else patterns.index(decides))


def test_each_option_is_decided_by_itself() -> None:
    found = configured(("*", {"timeout": 60, "priority": 1}), ("shop.*", {"timeout": 5}), ("shop.mail", {"queue": "mail"}))
    policy = found.policy("shop.mail", {"priority": 7})
    assert (policy.queue, policy.timeout, policy.priority) == ("mail", 5, 7)


def test_call_declaration_pattern_default_in_this_order() -> None:
    app = Stoker("shop")

    @app.task(name="reports.daily", queue="declared")
    def daily() -> None: ...

    @app.task(name="reports.weekly")
    def weekly() -> None: ...

    assert weekly.prepare().queue == "default"
    app.route("reports.*", queue="routed")  # also for what is declared already
    assert (daily.prepare().queue, weekly.prepare().queue) == ("declared", "routed")
    assert weekly.options(queue="called").prepare().queue == "called"
    assert weekly.handle("some-id").queue == "routed"

    @app.task(name="reports.monthly")
    def monthly() -> None: ...

    assert monthly.prepare().queue == "routed"


def test_annotations_reach_what_workers_go_by_and_what_a_call_carries() -> None:
    app = Stoker("shop")
    app.annotate("shop.*", timeout=30, retry=Retry(max_retries=7), priority=5, concurrency=Concurrency("all"), ignore_result=True)

    @app.task(name="shop.ship", timeout=10)
    def ship(order: int) -> None: ...

    policy = application_of(app).declarations["shop.ship"].policy
    assert (policy.timeout, policy.retry, policy.ignore_result) == (10, Retry(max_retries=7), True)
    call = ship.prepare(7)
    assert (call.priority, call.limit and call.limit.key) == (5, "all")


def test_a_task_known_by_its_name_only_is_routed_and_annotated_too() -> None:
    app = Stoker("shop")
    app.route("reports.*", queue="reports")
    app.annotate("reports.*", priority=3, timeout=30, soft_timeout=20, retry=Retry(max_retries=7, never=(KeyError,)))
    call = app.named("reports.daily").prepare(day="all")
    assert (call.task, call.queue, call.priority, call.timeout, call.soft_timeout) == ("reports.daily", "reports", 3, 30, 20)
    assert call.retry == Retry(max_retries=7).numbers
    assert bytes(call.payload) == b'{"day":"all"}'
    assert app.named("reports.daily").options(timeout=5, soft_timeout=1, queue="own").prepare().timeout == 5
    with pytest.raises(Invalid, match="by its name only: give its arguments by name"):
        app.named("reports.daily").prepare("all")

    @app.task()
    def known(day: str) -> None: ...

    assert app.named("known") is known


def test_a_schedule_of_a_task_follows_its_route() -> None:
    app = Stoker("shop")

    @app.task(name="reports.daily", schedule=every(60))
    def daily() -> None: ...

    app.route("reports.*", queue="reports")
    app.annotate("reports.daily", priority=9)
    schedule = application_of(app).schedules["reports.daily"]
    assert (schedule.queue, schedule.definition.priority) == ("reports", 9)


def test_a_schedule_has_every_option_of_a_call() -> None:
    app = Stoker("shop")

    @app.task()
    def report(day: str) -> None: ...

    options: dict[str, Any] = {"expires": 60, "headers": {"a": "b"}, "retry": Retry(max_retries=2), "timeout": 9, "soft_timeout": 5}
    app.schedule("nightly", every(60), report.options(**options, priority=3).prepare("all"))
    definition = application_of(app).schedules["nightly"].definition
    assert (definition.expires, definition.headers, definition.retry) == (60, {"a": "b"}, Retry(max_retries=2).numbers)
    assert (definition.timeout, definition.soft_timeout, definition.priority) == (9, 5, 3)
    with pytest.raises(Invalid, match="give expires in seconds"):
        app.schedule("weekly", every(60), report.options(expires=datetime.now(UTC) + timedelta(days=1)).prepare("all"))
    with pytest.raises(Invalid, match="delay cannot be given"):
        app.schedule("weekly", every(60), report.options(delay=5).prepare("all"))


def test_a_schedule_of_a_taskqueue_too() -> None:
    schedule = {"name": "a", "cron": "@daily", "task": "t", "timeout": "9s", "softTimeout": "5s", "expires": "1h"}
    more = {"retry": {"maxRetries": 2, "initialDelay": "1s"}, "headers": {"a": "b"}}
    spec = {"worker": {"app": "shop:app"}, "schedules": [schedule | more]}
    document = {"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": "q"}, "spec": spec}
    [found] = parse(document).spec.schedules
    definition = found.definition
    assert (definition.timeout, definition.soft_timeout, definition.expires, definition.headers) == (9, 5, 3600, {"a": "b"})
    assert definition.retry == Retry(max_retries=2, initial_delay=1).numbers
    spec["schedules"] = [schedule | {"softTimeout": "10s"}]
    with pytest.raises(Invalid, match="the soft timeout of 10 s would come too late"):
        parse(document)


@pytest.mark.parametrize(
    ("pattern", "options", "words"),
    [
        pytest.param("", {"priority": 1}, "bad pattern", id="no pattern"),
        pytest.param("shop.*", {}, "nothing is set for 'shop.\\*'", id="no option"),
        pytest.param("shop.*", {"priority": 1000}, "bad priority 1000", id="out of range"),
        pytest.param(
            "shop.*", {"timeout": 1}, "task shop.ship: the soft timeout of 5 s would come too late", id="a task's own timeout"
        ),
        pytest.param("shop.*", {"ignore_result": "yes"}, "bad ignore_result 'yes'", id="of another type"),
    ],
)
def test_a_wrong_annotation_is_refused_where_it_is_written_and_changes_nothing(
    pattern: str, options: dict[str, Any], words: str
) -> None:
    app = Stoker("shop")

    @app.task(name="shop.ship", soft_timeout=5)
    def ship() -> None: ...

    with pytest.raises(Invalid, match=words):
        app.annotate(pattern, **options)
    assert ship.prepare().priority == 0
    assert application_of(app).declarations["shop.ship"].policy.timeout is None
