"""The operator's settings: each is a flag and a `STOKER_*` variable, with one default."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Literal

from msgspec import Struct

from stoker.listening import EVERYWHERE
from stoker.rules.units import parse_duration
from stoker.settings import DEFAULT_REDIS_URL, PREFIX, LogFormat
from stoker_operator.allowed_redis import AllowedRedis

DEFAULT_PORT = 9090


TenantCredentials = Literal["Generated", "Provided"]
"""Who makes the Secret `stoker-redis` of a namespace: the operator, or an administrator."""


ServiceAccountTokens = Literal["Refused", "Allowed"]
"""Whether `spec.worker.template` may give worker pods tokens of service accounts."""


class OperatorSettings(Struct, frozen=True):
    """Times in seconds. Empty `watch_namespaces` means all namespaces."""

    redis_url: str = DEFAULT_REDIS_URL
    redis_secret: str = ""  # Secret with the password of `redis_url`; empty: the URL is complete
    gateway_secret: str = ""  # Secret to make for the gateway; empty: none
    tenant_credentials: TenantCredentials = "Provided"
    service_account_tokens: ServiceAccountTokens = "Refused"
    namespace: str = "default"  # the operator's own, with these two Secrets
    installation: str = ""  # empty: `namespace`/stoker-operator
    cluster_id: str = ""  # empty: the UID of the namespace kube-system
    watch_namespaces: tuple[str, ...] = ()
    allowed_redis: AllowedRedis = AllowedRedis()  # of tenants' own URLs
    lease: str = ""  # Lease in `namespace` by which one of several replicas leads; empty: this one always works
    lease_duration: float = 15.0
    interval: float = 1.0
    resync: float = 60.0
    config_interval: float = 25.0
    config_rate: float = 40.0  # per second, over all namespaces
    redis_timeout: float = 3.0
    host: str = EVERYWHERE
    port: int = DEFAULT_PORT
    log_format: LogFormat = "auto"
    log_level: str = "info"
    pod_namespace: str = ""  # empty outside of a cluster
    identity: str = "stoker-operator"  # the pod's name; the reportingInstance of Events

    @property
    def installation_name(self) -> str:
        """The name of this installation, as the Deployments that it makes carry it."""
        return self.installation or f"{self.namespace}/stoker-operator"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if seconds <= 0:
        raise argparse.ArgumentTypeError("must be more than 0s")
    return seconds


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < inf:
        raise argparse.ArgumentTypeError(f"bad rate {text!r}: write a number above 0, such as 40")
    return rate


def _lease_seconds(text: str) -> float:
    if not 3 <= (seconds := _seconds(text)) <= 3600:
        raise argparse.ArgumentTypeError(f"bad duration {text!r}: use 3s to 1h")
    return seconds


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"bad port {text!r}: write a number from 0 to 65535")
    return int(text)


def _level(text: str) -> str:
    if text.lower() not in {"debug", "info", "warning", "error"}:
        raise argparse.ArgumentTypeError(f"bad level {text!r}: use debug, info, warning or error")
    return text.lower()


def _format(text: str) -> str:
    if text not in {"auto", "json", "text"}:
        raise argparse.ArgumentTypeError(f"bad format {text!r}: use auto, json or text")
    return text


def _credentials(text: str) -> str:
    if text not in {"Generated", "Provided"}:
        raise argparse.ArgumentTypeError(f"bad value {text!r}: use Generated or Provided")
    return text


def _tokens(text: str) -> str:
    if text not in {"Refused", "Allowed"}:
        raise argparse.ArgumentTypeError(f"bad value {text!r}: use Refused or Allowed")
    return text


_FLAGS: tuple[tuple[str, Callable[[str], Any], str], ...] = (
    ("redis-url", str, "Redis URL of TaskQueues without spec.redis"),
    ("redis-secret", str, "Secret in the operator's namespace with the `password` of that URL, made if absent; default: none"),
    ("gateway-secret", str, "Secret in the operator's namespace to make for the gateway; default: none"),
    ("tenant-credentials", _credentials, "who makes the Secret stoker-redis of a namespace: Generated (the operator) or Provided"),
    ("service-account-tokens", _tokens, "whether worker pods may have tokens of service accounts: Refused or Allowed"),
    ("installation", str, "name of this installation among those of the cluster; default: NAMESPACE/stoker-operator"),
    ("cluster-id", str, "id of this cluster in the claims of queues; default: the UID of namespace kube-system"),
    ("watch-namespaces", _names, "Kubernetes namespaces to watch, comma-separated; empty means all"),
    (
        "allowed-redis",
        str,
        "hosts and networks of Redis URLs in TaskQueues' Secrets, such as *.cache.example.org,10.1.0.0/16; default: any host",
    ),
    (
        "lease",
        str,
        "Lease in the operator's namespace by which one of several replicas leads; default: none, this one always works",
    ),
    ("lease-duration", _lease_seconds, "how long the others wait for a leader that does not renew the Lease, such as 15s"),
    ("interval", _seconds, "interval of the autoscaler, such as 1s"),
    ("resync", _seconds, "interval at which every TaskQueue is reconciled without an event, such as 60s"),
    ("config-interval", _seconds, "interval between looks at a Secret or ConfigMap that worker pods read, such as 25s"),
    ("config-rate", _rate, "most such looks per second; with more objects than interval x rate the interval stretches"),
    ("redis-timeout", _seconds, "timeout of a call to Redis; then its queues are not scaled, such as 3s"),
    ("host", str, "listen address of /livez, /readyz and /metrics"),
    ("port", _port, "port of /livez, /readyz and /metrics"),
    ("log-format", _format, "auto, json or text"),
    ("log-level", _level, "debug, info, warning or error"),
)


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> OperatorSettings:
    """The settings of this process: flags over variables over defaults. Exits with a message for an invalid value."""
    parser = argparse.ArgumentParser("stoker-operator", description="Runs and scales the workers of TaskQueue resources.")
    for name, kind, text in _FLAGS:
        variable = PREFIX + name.replace("-", "_").upper()
        # argparse parses a string default like a flag, so an invalid variable gets the same message.
        default = environment.get(variable) or None
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} ({variable})")
    given: dict[str, Any] = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    try:
        given["allowed_redis"] = AllowedRedis.parse(given.get("allowed_redis", ""), environment.get("KUBERNETES_SERVICE_HOST", ""))
    except ValueError as error:
        parser.error(f"argument --allowed-redis: {error}")
    if pod := environment.get("POD_NAME"):
        given["identity"] = pod
    if namespace := environment.get("POD_NAMESPACE"):
        given["namespace"] = given["pod_namespace"] = namespace
    return OperatorSettings(**given)
