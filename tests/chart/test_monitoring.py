"""The alerts and the dashboard ask for metrics that exist, in queries that parse."""

import json
import re
from collections.abc import Iterator

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from stoker.rules.identity import QueueId
from stoker.telemetry.metrics import WorkerMetrics
from stoker_operator import metrics
from stoker_operator.state.queue_store import QueueStore
from tests.chart.rendering import CHART, Object, of_kind, render

ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARDS = {path.name: json.loads(path.read_text()) for path in (CHART / "files" / "dashboards").glob("*.json")}
PANELS = [pytest.param(panel, id=panel["title"]) for board in DASHBOARDS.values() for panel in board["panels"]]
ON = {
    "monitoring": {
        "podMonitors": {"enabled": True, "labels": {"release": "prom"}},
        "rules": {"enabled": True},
        "dashboards": {"enabled": True},
    }
}


def exported(registry: CollectorRegistry) -> set[str]:
    """Every series of a registry, also of metrics that have no value yet."""
    names = set()
    for family in registry.collect():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        names |= {family.name + ending for ending in endings}
    return names


def worker_metrics() -> set[str]:
    """What a worker exports."""
    registry = CollectorRegistry()
    WorkerMetrics(registry, QueueId("stoker", "emails"), slots=8)
    return exported(registry)


def selectors(expression: object) -> Iterator[promql_parser.VectorSelector]:
    """Every selector in a parsed query."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for name in ("expr", "lhs", "rhs", "args", "vector_selector", "param"):
        inner = getattr(expression, name, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if each is not None:
                yield from selectors(each)


def metric_names(query: str) -> set[str]:
    """The metrics of a query, which must parse."""
    plain = query.replace("$__rate_interval", "1m").replace("$namespace", "shop").replace("$queue", "emails")
    names = {selector.name for selector in selectors(promql_parser.parse(plain))}
    assert names == set(re.findall(r"\b(?:stoker_\w+|up)(?=[{\[) ]|$)", plain)), "a selector was overlooked"
    return names


KNOWN = {"up"} | exported(metrics.registry(QueueStore())) | worker_metrics()


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in RULES])
def test_an_alert_can_fire(rule: Object):
    assert metric_names(rule["expr"]) <= KNOWN
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description"}
    # A label that the query does not keep would be shown as <no value>.
    shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    kept = {label for labels in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in labels.split(", ")}
    assert shown <= kept


def test_alerts_cover_what_hurts():
    assert {rule["alert"] for rule in RULES} >= {
        "StokerOperatorDown",
        "StokerOperatorWithoutLeader",
        "StokerReconcileFailing",
        "StokerRedisUnreachable",
        "StokerQueueNotDraining",
        "StokerTasksUnclaimed",
        "StokerDeadLettersGrowing",
    }


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_shows_something(panel: Object):
    assert panel["description"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert metric_names(target["expr"]) <= KNOWN
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


QUERIES = [rule["expr"] for rule in RULES] + [
    target["expr"] for board in DASHBOARDS.values() for panel in board["panels"] for target in panel["targets"]
]


@pytest.mark.parametrize("query", QUERIES)
def test_queues_of_one_name_in_two_namespaces_are_told_apart(query: str):
    for labels in re.findall(r"by \(([^)]*)\)", query):
        assert "queue" not in labels or "namespace" in labels


def test_every_metric_of_a_queue_has_its_namespace():
    registry = CollectorRegistry()
    WorkerMetrics(registry, QueueId("shop", "emails"), slots=8).tasks.of("send").started += 1
    samples = [sample for family in registry.collect() for sample in family.samples if "queue" in sample.labels]
    assert len({sample.name for sample in samples}) > 8
    assert all(sample.labels["namespace"] == "shop" for sample in samples)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_panel_hides_another(name: str):
    board = DASHBOARDS[name]
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "namespace", "queue"}


def test_nothing_of_it_is_installed_unasked():
    kinds = {each["kind"] for each in render()}
    assert not kinds & {"PodMonitor", "PrometheusRule", "ConfigMap"}


def test_the_rules_arrive_as_they_are():
    """Prometheus' own templates look like helm's, and must not be filled in by it."""
    (rule,) = of_kind(render(ON), "PrometheusRule").values()
    assert rule["spec"] == ALERTS


def test_grafana_finds_the_dashboards():
    (config,) = of_kind(render(ON), "ConfigMap").values()
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {name.removeprefix("stoker-"): json.loads(text) for name, text in config["data"].items()} == DASHBOARDS


def test_prometheus_finds_every_pod():
    objects = render(ON)
    monitors = of_kind(objects, "PodMonitor")
    assert monitors.keys() == {"stoker-operator", "stoker-gateway", "stoker-worker"}
    for name, monitor in monitors.items():
        assert monitor["metadata"]["labels"]["release"] == "prom"
        assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name"  # which makes the job that the alerts name
        wanted = monitor["spec"]["selector"]["matchLabels"]
        assert wanted["app.kubernetes.io/name"] == name
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        # The operator speaks of other namespaces than its own.
        assert endpoint.get("honorLabels", False) == (name == "stoker-operator")
        # Workers say the namespace of their keys; that of their pods is the one that joins with the operator's.
        dropped = [each["regex"] for each in endpoint.get("metricRelabelings", []) if each["action"] == "labeldrop"]
        assert dropped == (["exported_namespace"] if name == "stoker-worker" else [])
        if name != "stoker-worker":
            template = of_kind(objects, "Deployment")[name]["spec"]["template"]
            assert wanted.items() <= template["metadata"]["labels"].items()
            assert endpoint["port"] in {port["name"] for port in template["spec"]["containers"][0]["ports"]}


def test_workers_are_looked_for_where_they_run():
    assert of_kind(render(ON), "PodMonitor")["stoker-worker"]["spec"]["namespaceSelector"] == {"any": True}
    some = of_kind(render({**ON, "watchNamespaces": ["shop"]}), "PodMonitor")["stoker-worker"]
    assert some["spec"]["namespaceSelector"] == {"matchNames": ["shop"]}
