"""Reads, for a TaskQueue, the Redis URL and what its pods take from Secrets and ConfigMaps."""

from collections.abc import Callable, Mapping, Sequence

from stoker.errors import Invalid, NotFound
from stoker.manifest.redis_ref import SecretKey
from stoker.manifest.task_queue import TaskQueue
from stoker.redis.url import hosts_of
from stoker_operator.credentials.credentials import Credentials
from stoker_operator.credentials.tenant import SECRET
from stoker_operator.kube import Kube, KubernetesForbidden
from stoker_operator.reconcile.config_poller import ConfigObject, Versions
from stoker_operator.reconcile.config_sources import Content, Kind, Source, config_digest, sources
from stoker_operator.reconcile.resources import Connection
from stoker_operator.state.problem import Problem, secret_key_missing, secret_missing
from stoker_operator.state.redis_problem import invalid_redis_url
from stoker_operator.state.ref import Ref

Place = tuple[Kind, str]
"""The kind and the name of an object in the TaskQueue's namespace."""


class Connections:
    """All methods raise what Kube raises. `read` is called with what has been read for a TaskQueue (config_poller.py)."""

    def __init__(self, kube: Kube, credentials: Credentials, read: Callable[[Ref, Versions], None]) -> None:
        self._kube = kube
        self._credentials = credentials
        self._read = read

    async def of(self, queue: TaskQueue) -> Connection | Problem:
        """The Redis URL, and the digest of what the pods read. Creates the credentials of the namespace if they are absent."""
        reference = queue.spec.redis.url_secret_ref
        contents: dict[Place, Content] = {}
        if reference is None:
            found = await self._credentials.of_namespace(queue.namespace)
            if isinstance(found, Problem):
                return found
            contents["Secret", SECRET] = Content(found.uid, found.data, found.version)
        read = sources(queue)
        try:
            problem = await self._fill(queue, read, contents)
        finally:
            versions = {ConfigObject(each.kind, queue.namespace, each.name): "" for each in read}
            for (kind, name), content in contents.items():
                versions[ConfigObject(kind, queue.namespace, name)] = content.version
            self._read(Ref(queue.namespace, queue.name), versions)
        if problem is not None:
            return problem
        url = self._credentials.url if reference is None else self._url_in(contents["Secret", reference.name].data, reference)
        return url if isinstance(url, Problem) else Connection(url, config_digest(read, contents))

    async def _fill(self, queue: TaskQueue, read: Sequence[Source], contents: dict[Place, Content]) -> Problem | None:
        """Read all that is not in `contents` yet. Returns which Secret is missing, if the pods cannot start without it."""
        reference = queue.spec.redis.url_secret_ref
        required = {(each.kind, each.name) for each in read if not each.optional}
        for kind, name in dict.fromkeys((each.kind, each.name) for each in read):
            if (kind, name) in contents:
                continue
            try:
                contents[kind, name] = await self._content(queue.namespace, kind, name)
            except NotFound:
                if kind == "Secret" and (kind, name) in required:
                    return secret_missing(queue.namespace, name)
            except KubernetesForbidden:
                if kind == "Secret" and reference is not None and name == reference.name:
                    raise
                # Workers start without: the kubelet reads these, and only a change of one does not roll them.
        return None

    async def url(self, queue: TaskQueue) -> str | Problem:
        """Where the operator itself reads the queue."""
        reference = queue.spec.redis.url_secret_ref
        if reference is None:
            return self._credentials.url
        try:
            return self._url_in((await self._kube.secret(queue.namespace, reference.name)).data, reference)
        except NotFound:
            return secret_missing(queue.namespace, reference.name)

    async def _content(self, namespace: str, kind: Kind, name: str) -> Content:
        if kind == "ConfigMap":
            config_map = await self._kube.config_map(namespace, name)
            return Content("", config_map.data, config_map.version)
        secret = await self._kube.secret(namespace, name)
        return Content(secret.uid, secret.data, secret.version)

    def _url_in(self, content: Mapping[str, bytes], reference: SecretKey) -> str | Problem:
        if reference.key not in content:
            return secret_key_missing(reference.name, reference.key)
        url = content[reference.key].decode(errors="replace").strip()
        if url == self._credentials.url:  # which may name files of the operator's pod, such as its client certificate
            try:
                hosts_of(url)
            except Invalid as error:
                return invalid_redis_url(error)
        return url
