"""The worker pods of a TaskQueue."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from stoker.manifest.fields import Slots, Spec, check_secret_name, mapping
from stoker.rules.pod_metadata import check_annotations, check_labels
from stoker.rules.units import Duration

IntOrPercent = int | str
_PERCENT = re.compile(r"(0|[1-9][0-9]{0,2})%")


class Strategy(Spec, frozen=True):
    """How a change replaces the workers, as in a Deployment's `rollingUpdate`: numbers, or percentages such as `25%`."""

    max_surge: IntOrPercent = "25%"
    max_unavailable: IntOrPercent = 0

    def __post_init__(self) -> None:
        for name, value, most in (("maxSurge", self.max_surge, 999), ("maxUnavailable", self.max_unavailable, 100)):
            if isinstance(value, str) and not (_PERCENT.fullmatch(value) and int(value[:-1]) <= most):
                raise ValueError(f"{name} must be a number, or a percentage such as 25%")
            if isinstance(value, int) and not 0 <= value <= 1000:
                raise ValueError(f"{name} must be 0 to 1000")
        if {self.max_surge, self.max_unavailable} <= {0, "0%"}:
            raise ValueError("maxUnavailable must be more than 0 where maxSurge is 0, or no worker could be replaced")


class Worker(Spec, frozen=True):
    """The worker pods. Each runs `processes` processes with `concurrency` tasks at a time."""

    image: str = ""
    app: str = ""
    processes: Annotated[int, Meta(ge=1, le=64)] = 1
    concurrency: Slots = 16
    task_timeout: Duration = Duration(600)
    drain_timeout: Duration = Duration(660)
    startup_timeout: Duration = Duration(300)
    env: list[dict[str, Any]] = field(default_factory=list)
    env_from: list[dict[str, Any]] = field(default_factory=list)
    resources: dict[str, Any] = field(default_factory=dict)
    user_ids: Literal["Fixed", "Cluster"] = "Fixed"
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    strategy: Strategy = Strategy()
    template: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task_timeout <= 0:
            raise ValueError("taskTimeout must be more than 0s, or every task would time out")
        if self.drain_timeout < self.task_timeout:
            raise ValueError("drainTimeout must be at least taskTimeout, or a scale-down would kill a running task")
        if self.startup_timeout < 1:
            raise ValueError("startupTimeout must be at least 1s, or no worker would start")
        if not all(isinstance(variable.get("name"), str) for variable in self.env):
            raise ValueError("every entry of env needs a name")
        check_labels(self.labels)
        check_annotations(self.annotations)
        for path, reference in self.secret_refs():
            check_secret_name(f"{path}.name", reference.get("name"))

    def secret_refs(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The references of `env` and `envFrom` to Secrets, each with its field. Raises ValueError for what is no mapping."""
        for at, variable in enumerate(self.env):
            source = mapping(f"env[{at}].valueFrom", variable.get("valueFrom"))
            if source.get("secretKeyRef") is not None:
                path = f"env[{at}].valueFrom.secretKeyRef"
                yield path, mapping(path, source["secretKeyRef"])
        for at, source in enumerate(self.env_from):
            if source.get("secretRef") is not None:
                path = f"envFrom[{at}].secretRef"
                yield path, mapping(path, source["secretRef"])

    @property
    def slots(self) -> int:
        """Concurrent tasks of one replica."""
        return self.processes * self.concurrency
