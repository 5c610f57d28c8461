"""Reads, for a TaskQueue, the Redis URL and what its pods take from Secrets and ConfigMaps."""

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from stoker.errors import Invalid, NotFound
from stoker.manifest.redis_ref import CA_FILE, CERT_FILE, KEY_FILE, RedisTls, SecretKey
from stoker.manifest.task_queue import TaskQueue
from stoker.redis.url import hosts_of
from stoker_operator.credentials.credentials import Credentials
from stoker_operator.credentials.tenant import SECRET
from stoker_operator.kube import Kube, KubernetesForbidden
from stoker_operator.reconcile.config_poller import ConfigObject, Versions
from stoker_operator.reconcile.config_sources import Content, Kind, Source, config_digest, sources
from stoker_operator.reconcile.resources import Connection
from stoker_operator.state.problem import Problem, certificate_missing, secret_key_missing, secret_missing
from stoker_operator.state.redis_problem import invalid_redis_url
from stoker_operator.state.ref import Ref

Place = tuple[Kind, str]
"""The kind and the name of an object in the TaskQueue's namespace."""


_OPTIONS = {CA_FILE: "ssl_ca_data", CERT_FILE: "ssl_cert_data", KEY_FILE: "ssl_key_data"}


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
        # What was not looked at is left out: an empty version would be news for others that refer to it, and theirs for this one.
        versions = {ConfigObject(kind, queue.namespace, name): each.version for (kind, name), each in contents.items()}
        try:
            problem = await self._fill(queue, read, contents, versions)
        finally:
            self._read(Ref(queue.namespace, queue.name), versions)
        if problem is not None:
            return problem
        url = self._credentials.url if reference is None else self._url_in(contents["Secret", reference.name].data, reference)
        if isinstance(url, str):
            secrets = {name: each.data for (kind, name), each in contents.items() if kind == "Secret"}
            url = with_certificates(url, queue.spec.redis.tls, secrets)
        return url if isinstance(url, Problem) else Connection(url, config_digest(read, contents))

    async def _fill(
        self, queue: TaskQueue, read: Sequence[Source], contents: dict[Place, Content], versions: dict[ConfigObject, str]
    ) -> Problem | None:
        """Read all that is not in `contents` yet. Returns which Secret is missing, if the pods cannot start without it."""
        reference = queue.spec.redis.url_secret_ref
        required = {(each.kind, each.name) for each in read if not each.optional}
        for kind, name in dict.fromkeys((each.kind, each.name) for each in read):
            if (kind, name) in contents:
                continue
            at = ConfigObject(kind, queue.namespace, name)
            try:
                contents[kind, name] = await self._content(queue.namespace, kind, name)
                versions[at] = contents[kind, name].version
            except NotFound:
                versions[at] = ""
                if kind == "Secret" and (kind, name) in required:
                    return secret_missing(queue.namespace, name)
            except KubernetesForbidden:
                versions[at] = ""
                if kind == "Secret" and reference is not None and name == reference.name:
                    raise
                # Workers start without: the kubelet reads these, and only a change of one does not roll them.
        return None

    async def url(self, queue: TaskQueue) -> str | Problem:
        """Where the operator itself reads the queue."""
        reference = queue.spec.redis.url_secret_ref
        if reference is None:
            return self._credentials.url
        name = reference.name
        try:
            url = self._url_in((await self._kube.secret(queue.namespace, name)).data, reference)
            read: dict[str, Mapping[str, bytes]] = {}
            for name in {secret for _, secret, _ in queue.spec.redis.tls.files()}:
                read[name] = (await self._kube.secret(queue.namespace, name)).data
        except NotFound:
            return secret_missing(queue.namespace, name)
        return with_certificates(url, queue.spec.redis.tls, read) if isinstance(url, str) else url

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


def with_certificates(url: str, tls: RedisTls, read: Mapping[str, Mapping[str, bytes]]) -> str | Problem:
    """The URL with the certificates of these Secrets in it: a tenant's URL may name no files of the operator."""
    files = list(tls.files())
    if files and not url.startswith("rediss"):
        return invalid_redis_url(Invalid("bad Redis URL: spec.redis.tls is for connections over TLS: write rediss for redis"))
    for file, name, key in files:
        if key not in read.get(name, {}):
            return certificate_missing(name, key)
        url += f"{'&' if '?' in url else '?'}{_OPTIONS[file]}={quote(read[name][key], safe='')}"
    return url
