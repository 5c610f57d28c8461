"""Short ways to say what was observed, for the pure tests."""

from typing import Any

from stoker.manifest.task_queue import TaskQueue, parse
from stoker_operator.reconcile.plan import Live, live
from stoker_operator.reconcile.resources import Connection, deployment
from stoker_operator.state.ref import Object, Owner, Ref

REF = Ref("shop", "emails")
OWNER = Owner(REF, "uid-1")
CONNECTION = Connection("redis://redis:6379/0")


def task_queue(**spec: Any) -> TaskQueue:
    spec = {"worker": {"image": "shop:1", "app": "shop:app"}} | spec
    metadata = {"name": REF.name, "namespace": REF.namespace}
    return parse({"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": metadata, "spec": spec})


def manifest(connection: Connection = CONNECTION, **spec: Any) -> Object:
    return deployment(task_queue(**spec), OWNER, connection)


def found(wanted: Object, *, replicas: int = 0, ready: int = 0, uid: str = "deployment-1") -> Live:
    """The Deployment as the API server would show it after `wanted` was applied."""
    spec = {key: value for key, value in wanted["spec"].items() if key != "paused"}
    status = {"replicas": replicas, "readyReplicas": ready}
    return live(
        {**wanted, "metadata": {**wanted["metadata"], "uid": uid}, "spec": {**spec, "replicas": replicas}, "status": status},
    )
