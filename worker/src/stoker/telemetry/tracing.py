"""Tracing: OpenTelemetry spans after the messaging semantic conventions, `send emails` and `process emails`, linked.

The context of the enqueue is part of the task's envelope, so it survives delays, retries and redrives.
The consumer *links* to it instead of being its child: a task may run days later, and many times.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, Self

from opentelemetry import context, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stoker.errors import Invalid

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_propagator = TraceContextTextMapPropagator()


class SpanDelivery(Protocol):
    """The fields of a delivery that the consumer's span carries."""

    @property
    def id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def fence(self) -> str: ...


def current_carrier() -> dict[str, str]:
    """The current trace context as a W3C carrier, for another process."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier


@contextmanager
def attached(carrier: dict[str, str]) -> Iterator[None]:
    """Within this, log lines and spans belong to the span of another process."""
    token = context.attach(_propagator.extract(carrier))
    try:
        yield
    finally:
        context.detach(token)


class ProcessSpan:
    """The span of one run, as a context manager. Does nothing while tracing is off."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def failed(self, kind: str, message: str) -> None:
        """Mark the run as failed."""


class _RealSpan(ProcessSpan):
    def __init__(self, entering: AbstractContextManager[trace.Span]) -> None:
        self._entering = entering

    def __enter__(self) -> Self:
        self._span = self._entering.__enter__()
        return self

    def __exit__(self, *what: Any) -> None:
        self._entering.__exit__(*what)

    def failed(self, kind: str, message: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, message))


_NO_SPAN = ProcessSpan()
_UNTRACED: AbstractContextManager[dict[str, str]] = nullcontext({})


class Tracing:
    """Makes the spans of clients and workers. Without a provider it does nothing."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("stoker") if provider else None

    @classmethod
    def from_environment(cls, service: str) -> "Tracing":
        """Export to OTEL_EXPORTER_OTLP_ENDPOINT; off when it is not set.

        Raises Invalid when it is set and the exporter is not installed.
        """
        if not os.environ.get(ENDPOINT):
            return cls()
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as error:
            raise Invalid(f'{ENDPOINT} is set but its exporter is missing: pip install "stoker[otel]"') from error
        from opentelemetry.sdk.resources import Resource  # 2 MB, only for those who export
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", service)}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def close(self) -> None:
        """Export what is buffered."""
        if self._provider is None:
            return
        from opentelemetry.sdk.trace import TracerProvider

        if isinstance(self._provider, TracerProvider):
            self._provider.shutdown()

    def sending(self, queue: str, count: int) -> AbstractContextManager[dict[str, str]]:
        """The producer's span around an enqueue of `count` tasks. Yields the carrier for their envelopes."""
        return _UNTRACED if self._tracer is None else self._sending(self._tracer, queue, count)

    @contextmanager
    def _sending(self, tracer: trace.Tracer, queue: str, count: int) -> Iterator[dict[str, str]]:
        attributes: dict[str, str | int] = {
            "messaging.system": "stoker",
            "messaging.operation.type": "send",
            "messaging.operation.name": "send",
            "messaging.destination.name": queue,
        }
        if count > 1:
            attributes["messaging.batch.message_count"] = count
        with tracer.start_as_current_span(f"send {queue}", kind=SpanKind.PRODUCER, attributes=attributes):
            carrier: dict[str, str] = {}
            _propagator.inject(carrier)
            yield carrier

    def carrier(self) -> dict[str, str]:
        """The carrier of the current span; empty while tracing is off."""
        carrier: dict[str, str] = {}
        if self._tracer is not None:
            _propagator.inject(carrier)
        return carrier

    def processing(self, queue: str, task: str, delivery: SpanDelivery, carrier: dict[str, str]) -> ProcessSpan:
        """The consumer's span around one run."""
        if self._tracer is None:
            return _NO_SPAN
        origin = trace.get_current_span(_propagator.extract(carrier)).get_span_context()
        attributes: dict[str, str | int] = {
            "messaging.system": "stoker",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.name": queue,
            "messaging.message.id": delivery.id,
            "stoker.task": task,
            "stoker.attempt": delivery.attempt,
            "stoker.fence": delivery.fence,
        }
        links = [Link(origin)] if origin.is_valid else []
        return _RealSpan(
            self._tracer.start_as_current_span(f"process {queue}", kind=SpanKind.CONSUMER, attributes=attributes, links=links)
        )
