"""The operator's rights in the cluster: one table, with which the chart, the documentation and recorded calls are compared.

Who adds a request to `stoker_operator.kube` adds its verb here, in the chart's `operator-rbac.yaml` and in
docs/architecture/trust.md, and makes the scenario of test_rights.py send it.
"""

from typing import Any, NamedTuple

from stoker_operator.state.ref import Object


class Right(NamedTuple):
    """A verb on a resource, and what needs it. `name`: of the one object that it holds for. `recorded`: a request has this verb."""

    group: str
    resource: str
    verb: str
    why: str
    name: str = ""
    recorded: bool = True

    @property
    def kind(self) -> str:
        """As in an audit log and in RBAC's messages."""
        return f"{self.group}/{self.resource}"


RIGHTS = (
    Right("stoker.dev", "taskqueues", "get", "one pass over a TaskQueue"),
    Right("stoker.dev", "taskqueues", "list", "the resync, and the start of a watch"),
    Right("stoker.dev", "taskqueues", "watch", "changes of TaskQueues"),
    Right("stoker.dev", "taskqueues", "patch", "the finalizer of `deletionPolicy: Drain`, and nothing else"),
    Right("stoker.dev", "taskqueues/status", "patch", "the status"),
    Right(
        "stoker.dev",
        "taskqueues/finalizers",
        "update",
        "owner references of the Deployments, where the API server guards these",
        recorded=False,
    ),
    Right("apps", "deployments", "get", "the workers as they are"),
    Right("apps", "deployments", "list", "the first look after a start, and the start of a watch"),
    Right("apps", "deployments", "watch", "changes of the workers by others"),
    Right("apps", "deployments", "create", "the workers of a new TaskQueue"),
    Right("apps", "deployments", "patch", "a changed TaskQueue"),
    Right("apps", "deployments/scale", "patch", "the autoscaler"),
    Right("", "pods", "list", "why workers do not get ready"),
    Right("", "pods", "watch", "pods that have ended, whose tasks are taken back"),
    Right("", "secrets", "get", "the Redis URL, and a digest of what the workers' environment reads"),
    Right("", "secrets", "create", "the credentials of a namespace, with `tenants.credentials: Generated` alone"),
    Right("", "configmaps", "get", "a digest of what the workers' environment reads"),
    Right("", "namespaces", "get", "the cluster's id in claims of queues; not with `watchNamespaces`", name="kube-system"),
    Right("policy", "poddisruptionbudgets", "list", "budgets as they are, every five minutes"),
    Right("policy", "poddisruptionbudgets", "create", "`disruption.podDisruptionBudget: Auto`"),
    Right("policy", "poddisruptionbudgets", "patch", "budgets that another has changed, or whose labels changed"),
    Right("policy", "poddisruptionbudgets", "delete", "`disruption.podDisruptionBudget: Disabled`"),
    Right("monitoring.coreos.com", "podmonitors", "list", "PodMonitors as they are, every five minutes"),
    Right("monitoring.coreos.com", "podmonitors", "create", "`observability.podMonitor: Enabled`"),
    Right("monitoring.coreos.com", "podmonitors", "patch", "PodMonitors that another has changed", recorded=False),
    Right("monitoring.coreos.com", "podmonitors", "delete", "`observability.podMonitor: Disabled`", recorded=False),
    Right("events.k8s.io", "events", "create", "Events"),
)

LEASE = "stoker-operator"
ELECTION = (
    Right("coordination.k8s.io", "leases", "get", "who leads", name=LEASE),
    Right("coordination.k8s.io", "leases", "update", "taking, renewing and releasing the lead", name=LEASE),
    Right("coordination.k8s.io", "leases", "create", "the first leader's: RBAC cannot bind a creation to a name"),
)
"""Those of the Role in the release's namespace, with `operator.replicas: 2`."""

IN_ROLES = (
    Right("", "namespaces", "get", "the end of a watched namespace, with which the Role goes; with `watchNamespaces` alone"),
)

NAMESPACED = (*(each for each in RIGHTS if not each.name), *IN_ROLES)
"""Those of a Role, with `watchNamespaces`."""


def rules(rights: tuple[Right, ...] = RIGHTS) -> list[Object]:
    """The rules of a Role or ClusterRole that grants these rights."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for each in rights:
        found.setdefault((each.group, each.resource, each.name), []).append(each.verb)
    return [_rule(*key, verbs) for key, verbs in found.items()]


def verbs_by_kind(rights: tuple[Right, ...] = RIGHTS) -> dict[str, set[str]]:
    """The verbs of each `group/resource`."""
    found: dict[str, set[str]] = {}
    for each in rights:
        found.setdefault(each.kind, set()).add(each.verb)
    return found


def _rule(group: str, resource: str, name: str, verbs: list[str]) -> Object:
    rule: dict[str, Any] = {"apiGroups": [group], "resources": [resource], "verbs": verbs}
    return rule | ({"resourceNames": [name]} if name else {})
