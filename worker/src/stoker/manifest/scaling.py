"""Between which limits a TaskQueue is scaled, and by what."""

from typing import Annotated, Literal

from msgspec import Meta

from stoker.manifest.fields import Replicas, Spec
from stoker.rules.units import Duration


class ScaleDown(Spec, frozen=True):
    """Scale down to the highest recommendation of the last `stabilization` seconds."""

    stabilization: Duration = Duration(20)


class Scaling(Spec, frozen=True):
    """The limits of the number of replicas, and what it is computed from."""

    min_replicas: Replicas = 0
    max_replicas: Replicas = 20
    backlog_per_replica: Annotated[int, Meta(ge=1)] | None = None
    idle_after: Duration = Duration(20)
    paused: Literal["None", "ScaleIn", "ScaleOut", "All"] = "None"
    scale_down: ScaleDown = ScaleDown()

    def __post_init__(self) -> None:
        if self.max_replicas < 1:
            raise ValueError("maxReplicas must be at least 1; to stop the workers set replicas: 0 or suspend: true")
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas {self.min_replicas} is more than maxReplicas {self.max_replicas}")
