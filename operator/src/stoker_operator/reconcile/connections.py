"""Where a TaskQueue's Redis is, and what the Secrets of its workers hold."""

from collections.abc import Mapping

from stoker.errors import NotFound
from stoker.manifest import SecretKey, TaskQueue
from stoker_operator.credentials.credentials import Credentials
from stoker_operator.credentials.tenant import SECRET
from stoker_operator.kube import Kube, KubernetesForbidden
from stoker_operator.reconcile.resources import Connection, digest, secret_names
from stoker_operator.state.problem import Problem, secret_key_missing, secret_missing


class Connections:
    """Reads Secrets. Raises what Kube raises."""

    def __init__(self, kube: Kube, credentials: Credentials) -> None:
        self._kube = kube
        self._credentials = credentials

    async def of(self, queue: TaskQueue) -> Connection | Problem:
        """The Redis URL, and the digest of the workers' Secrets. Creates the credentials of the namespace if they are absent."""
        reference = queue.spec.redis.url_secret_ref
        contents: dict[str, dict[str, bytes]] = {}
        if reference is None:
            found = await self._credentials.of_namespace(queue.namespace, make=True)
            if isinstance(found, Problem):
                return found
            contents[SECRET] = found.data
        for name in secret_names(queue):
            try:
                contents[name] = contents.get(name) or (await self._kube.secret(queue.namespace, name)).data
            except NotFound:
                return secret_missing(queue.namespace, name)
            except KubernetesForbidden:
                if reference is not None and name == reference.name:
                    raise
                # Workers start without: the kubelet reads these Secrets, and only a change of one does not roll them.
        summary = {name: {key: value.hex() for key, value in content.items()} for name, content in contents.items()}
        url = self._credentials.url if reference is None else _url_in(contents[reference.name], reference)
        return url if isinstance(url, Problem) else Connection(url, digest(summary))

    async def url(self, queue: TaskQueue) -> str | Problem:
        """Where the operator itself reads the queue."""
        reference = queue.spec.redis.url_secret_ref
        if reference is None:
            return self._credentials.url
        try:
            return _url_in((await self._kube.secret(queue.namespace, reference.name)).data, reference)
        except NotFound:
            return secret_missing(queue.namespace, reference.name)


def _url_in(content: Mapping[str, bytes], reference: SecretKey) -> str | Problem:
    if reference.key not in content:
        return secret_key_missing(reference.name, reference.key)
    return content[reference.key].decode(errors="replace").strip()
