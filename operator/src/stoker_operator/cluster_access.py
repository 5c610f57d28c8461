"""How the operator reaches its cluster: from a pod, or by a kubeconfig. What it writes passes the guard."""

import os
from typing import Any

import aiohttp
from kubernetes.aio import client
from kubernetes.aio import config as _config

from stoker_operator.kube import Kube, KubernetesRefused
from stoker_operator.state.write_guard import NotLeader, WriteGuard

config: Any = _config  # untyped


def in_cluster() -> bool:
    """Whether this process runs in a pod."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


def in_cluster_address() -> str:
    """The URL of the API server for a pod, by address: it needs no DNS. Raises KubernetesRefused outside of a pod."""
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise KubernetesRefused(f"not in a pod: {error}") from error
    return str(configuration.host)


async def connect(guard: WriteGuard | None = None) -> Kube:
    """Connect to the cluster this pod runs in, else to that of the kubeconfig. Raises KubernetesRefused without either."""
    guard = guard or WriteGuard()
    configuration = client.Configuration(client_session_kwargs={"request_class": _guarded(guard)})
    try:
        if in_cluster():
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise KubernetesRefused(f"no Kubernetes cluster: {error}. Run in a pod, or set KUBECONFIG") from error
    return Kube(client.ApiClient(configuration), guard)


def _guarded(guard: WriteGuard) -> type[aiohttp.ClientRequest]:
    """Requests that ask the guard once more when their connection is there, in the step of the event loop that writes to it."""

    class Guarded(aiohttp.ClientRequest):
        async def write_bytes(self, writer: Any, conn: Any, content_length: int | None = None) -> None:
            try:
                guard.left()  # a read has no body, and does not come here
            except NotLeader as error:
                conn.protocol.set_exception(error)
                conn.close()
                return
            await super().write_bytes(writer, conn, content_length)

    return Guarded
