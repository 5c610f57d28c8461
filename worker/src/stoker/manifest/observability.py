"""What a TaskQueue asks for beside its workers: protection from disruptions, metrics that are scraped, traces."""

from typing import Annotated, Literal

from msgspec import Meta

from stoker.manifest.fields import Spec


class Disruption(Spec, frozen=True):
    """`Auto`: a PodDisruptionBudget where the queue may have more than one worker."""

    pod_disruption_budget: Literal["Auto", "Disabled"] = "Auto"


class Tracing(Spec, frozen=True):
    """Traces of the workers, by OTLP over HTTP. Off without an endpoint."""

    endpoint: Annotated[str, Meta(max_length=512, pattern="^(https?://[^ ]+)?$")] = ""
    sample_percent: Annotated[int, Meta(ge=0, le=100)] = 10


class Observability(Spec, frozen=True):
    """What is exported of the workers."""

    pod_monitor: Literal["Disabled", "Enabled"] = "Disabled"
    tracing: Tracing = Tracing()
