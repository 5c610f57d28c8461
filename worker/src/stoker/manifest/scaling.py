"""Between which limits a TaskQueue is scaled, and by what: the promised wait, or a fixed backlog per replica."""

from typing import Annotated, Literal

from msgspec import Meta

from stoker.manifest.fields import Replicas, Spec
from stoker.rules.units import Duration


class ScaleDown(Spec, frozen=True):
    """Scale down to the highest recommendation of the last `stabilization` seconds."""

    stabilization: Duration = Duration(20)


class Slo(Spec, frozen=True):
    """The wait that is promised: this percentage of tasks start within `max_wait` seconds of their due time."""

    max_wait: Duration = Duration(30)
    objective_percent: Annotated[int, Meta(ge=1, le=99)] = 99

    def __post_init__(self) -> None:
        if self.max_wait < 1:
            raise ValueError("maxWait must be at least 1s: the queue is read once a second")


class Scaling(Spec, frozen=True):
    """The limits of the number of replicas, and what it is computed from."""

    min_replicas: Replicas = 0
    max_replicas: Replicas = 20
    slo: Slo = Slo()
    service_time_hint: Duration | None = None
    backlog_per_replica: Annotated[int, Meta(ge=1)] | None = None
    idle_after: Duration = Duration(20)
    paused: Literal["None", "ScaleIn", "ScaleOut", "All"] = "None"
    scale_down: ScaleDown = ScaleDown()

    def __post_init__(self) -> None:
        if self.max_replicas < 1:
            raise ValueError("maxReplicas must be at least 1; to stop the workers set replicas: 0 or suspend: true")
        if self.service_time_hint is not None and self.service_time_hint <= 0:
            raise ValueError("serviceTimeHint must be more than 0s: about the seconds that a task takes")
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas {self.min_replicas} is more than maxReplicas {self.max_replicas}")
