"""Reads, for a TaskQueue, the Redis URL and what its pods take from Secrets and ConfigMaps."""

from collections.abc import Mapping

from stoker.errors import NotFound
from stoker.manifest.redis_ref import SecretKey
from stoker.manifest.task_queue import TaskQueue
from stoker_operator.credentials.credentials import Credentials
from stoker_operator.credentials.tenant import SECRET
from stoker_operator.kube import Kube, KubernetesForbidden
from stoker_operator.reconcile.config_sources import Content, Kind, Source, config_digest, sources
from stoker_operator.reconcile.resources import Connection
from stoker_operator.state.problem import Problem, secret_key_missing, secret_missing


class Connections:
    """All methods raise what Kube raises."""

    def __init__(self, kube: Kube, credentials: Credentials) -> None:
        self._kube = kube
        self._credentials = credentials

    async def of(self, queue: TaskQueue) -> Connection | Problem:
        """The Redis URL, and the digest of what the pods read. Creates the credentials of the namespace if they are absent."""
        reference = queue.spec.redis.url_secret_ref
        contents: dict[tuple[Kind, str], Content] = {}
        if reference is None:
            found = await self._credentials.of_namespace(queue.namespace)
            if isinstance(found, Problem):
                return found
            contents["Secret", SECRET] = Content(found.uid, found.data)
        read = sources(queue)
        required = {(each.kind, each.name) for each in read if not each.optional}
        for source in read:
            place = (source.kind, source.name)
            if place in contents:
                continue
            try:
                contents[place] = await self._content(queue.namespace, source)
            except NotFound:
                if source.kind == "Secret" and place in required:
                    return secret_missing(queue.namespace, source.name)
            except KubernetesForbidden:
                if reference is not None and place == ("Secret", reference.name):
                    raise
                # Workers start without: the kubelet reads these, and only a change of one does not roll them.
        url = self._credentials.url if reference is None else _url_in(contents["Secret", reference.name].data, reference)
        return url if isinstance(url, Problem) else Connection(url, config_digest(read, contents))

    async def url(self, queue: TaskQueue) -> str | Problem:
        """Where the operator itself reads the queue."""
        reference = queue.spec.redis.url_secret_ref
        if reference is None:
            return self._credentials.url
        try:
            return _url_in((await self._kube.secret(queue.namespace, reference.name)).data, reference)
        except NotFound:
            return secret_missing(queue.namespace, reference.name)

    async def _content(self, namespace: str, source: Source) -> Content:
        if source.kind == "ConfigMap":
            return Content("", await self._kube.config_map(namespace, source.name))
        secret = await self._kube.secret(namespace, source.name)
        return Content(secret.uid, secret.data)


def _url_in(content: Mapping[str, bytes], reference: SecretKey) -> str | Problem:
    if reference.key not in content:
        return secret_key_missing(reference.name, reference.key)
    return content[reference.key].decode(errors="replace").strip()
