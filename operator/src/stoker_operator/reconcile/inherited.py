"""The labels of a TaskQueue that its workers' Deployment inherits: cost center, owner, environment. Pure.

Pods do not inherit them: another label there is another pod template, and would replace all workers. Pods have
`spec.worker.labels`. Labels by which tools find what they manage are left out: a tool that finds its label on the Deployment
takes that for its own object, and may prune it.
"""

from collections.abc import Mapping

from stoker.rules.pod_metadata import is_own
from stoker_operator.state.ref import Object

_OF_TOOLS = ("kubernetes.io", "k8s.io", "argoproj.io", "fluxcd.io", "helm.sh", "cattle.io", "k14s.io", "velero.io")
"""Domains whose labels, those of subdomains included, are bookkeeping of a tool."""
_DESCRIPTIVE = frozenset({"app.kubernetes.io/version", "app.kubernetes.io/component", "app.kubernetes.io/part-of"})


def inherited(task_queue: Object) -> dict[str, str]:
    """The labels for its Deployment."""
    labels: Mapping[str, str] = task_queue["metadata"].get("labels") or {}
    return {key: str(value) for key, value in labels.items() if not is_own(key) and (key in _DESCRIPTIVE or not _of_a_tool(key))}


def _of_a_tool(key: str) -> bool:
    prefix, slash, _ = key.rpartition("/")
    return bool(slash) and any(prefix == domain or prefix.endswith(f".{domain}") for domain in _OF_TOOLS)
