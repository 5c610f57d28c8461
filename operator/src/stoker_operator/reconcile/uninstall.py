"""The command `stoker-operator uninstall`, a hook of `helm uninstall`: a finalizer without an operator keeps a TaskQueue for ever.

It stops the operator, which would add the finalizers again, waits until it has ended, and takes them away. Deleted TaskQueues go at
once then; their workers finish within their grace period.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

from stoker.errors import NotFound, StokerError
from stoker_operator.kube import Kube, KubernetesConflict
from stoker_operator.state.problem import removal
from stoker_operator.state.ref import FINALIZER, Object, ref_of

log = logging.getLogger(__name__)
STOP_SECONDS = 60.0
LOOK_SECONDS = 0.5
ATTEMPTS = 5


async def uninstall(kube: Kube, installation: str, namespaces: Sequence[str]) -> list[str]:
    """Stop the operator (`installation`: namespace/name of its Deployment), and take its finalizers away in these namespaces, empty
    for all. Returns what is left to do, for people. Raises what Kube raises."""
    await _stop(kube, *installation.split("/", 1))
    left = []
    for namespace in namespaces or ("",):
        try:
            found = await kube.task_queues(namespace)
        except NotFound:
            continue  # no such resource: nothing to take away
        for each in found:
            if FINALIZER in (each["metadata"].get("finalizers") or ()):
                left += await _take_away(kube, each)
    return left


async def _stop(kube: Kube, namespace: str, name: str) -> None:
    try:
        labels = await kube.scale_to_zero(namespace, name)
    except NotFound:
        return
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    deadline = time.monotonic() + STOP_SECONDS
    while pods := await kube.pods_with(namespace, selector):
        if time.monotonic() > deadline:
            log.warning("the operator has not ended: %s", ", ".join(pod["metadata"]["name"] for pod in pods))
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _take_away(kube: Kube, task_queue: Object) -> list[str]:
    ref = ref_of(task_queue)
    error: StokerError | None = None
    for _ in range(ATTEMPTS):
        metadata = task_queue["metadata"]
        before = metadata.get("finalizers") or []
        try:
            await kube.set_finalizers(ref, metadata["uid"], before, [each for each in before if each != FINALIZER])
            log.info("took the finalizer away", extra={"taskqueue": str(ref)})
            return []
        except NotFound:
            return []
        except KubernetesConflict:
            try:
                task_queue = await kube.task_queue(ref)
            except NotFound:
                return []
        except StokerError as raised:
            error = raised
            await asyncio.sleep(LOOK_SECONDS)
    return [f"{error or 'its finalizers keep changing'}: {removal(ref)}"]
