"""Which Redis holds a queue."""

import re
from collections.abc import Iterator

from stoker.errors import Invalid
from stoker.manifest.fields import Spec, check_secret_name
from stoker.rules.message import check_namespace

CA_FILE, CERT_FILE, KEY_FILE = "ca.crt", "tls.crt", "tls.key"
_SECRET_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


class SecretKey(Spec, frozen=True):
    """One key of a Secret in the same namespace."""

    name: str
    key: str = "url"

    def __post_init__(self) -> None:
        _check_secret_key(self.name, self.key)


class CaSecret(Spec, frozen=True):
    """One key of a Secret in the same namespace, with the certificates of authorities (PEM)."""

    name: str
    key: str = "ca.crt"

    def __post_init__(self) -> None:
        _check_secret_key(self.name, self.key)


class ClientCertSecret(Spec, frozen=True):
    """A Secret of type kubernetes.io/tls in the same namespace: its keys `tls.crt` and `tls.key`."""

    name: str

    def __post_init__(self) -> None:
        check_secret_name("name", self.name)


class RedisTls(Spec, frozen=True):
    """Certificates for connections to Redis over TLS."""

    ca_secret_ref: CaSecret | None = None
    client_cert_secret_ref: ClientCertSecret | None = None

    def files(self) -> Iterator[tuple[str, str, str]]:
        """Each file: its name in a pod, and the name and the key of its Secret."""
        if self.ca_secret_ref is not None:
            yield CA_FILE, self.ca_secret_ref.name, self.ca_secret_ref.key
        if self.client_cert_secret_ref is not None:
            for file in (CERT_FILE, KEY_FILE):
                yield file, self.client_cert_secret_ref.name, file


class RedisRef(Spec, frozen=True):
    """Where Redis is, and the namespace of the keys in it. None means the operator's default Redis.

    An empty `namespace` means metadata.namespace. Another one is allowed only in a Redis of one's own: in the shared one it would
    open the queues of other namespaces.
    """

    url_secret_ref: SecretKey | None = None
    namespace: str = ""
    tls: RedisTls = RedisTls()

    def __post_init__(self) -> None:
        if next(self.tls.files(), None) is not None and self.url_secret_ref is None:
            raise ValueError("tls needs urlSecretRef: the operator's Redis has its own certificates")
        if self.namespace and self.url_secret_ref is None:
            raise ValueError("namespace needs urlSecretRef: only a Redis of your own may hold keys of another namespace")
        if self.namespace:
            try:
                check_namespace(self.namespace)
            except Invalid as error:
                raise ValueError(str(error)) from error


def _check_secret_key(name: str, key: str) -> None:
    check_secret_name("name", name)
    if not _SECRET_KEY.fullmatch(key):
        raise ValueError("key is not a key of a Secret: use letters, digits, '-', '_' and '.'")
