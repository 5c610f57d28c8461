"""Which Redis holds a queue."""

import re

from stoker.errors import Invalid
from stoker.manifest.fields import Spec, check_secret_name
from stoker.rules.message import check_namespace

_SECRET_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


class SecretKey(Spec, frozen=True):
    """One key of a Secret in the same namespace."""

    name: str
    key: str = "url"

    def __post_init__(self) -> None:
        check_secret_name("name", self.name)
        if not _SECRET_KEY.fullmatch(self.key):
            raise ValueError("key is not a key of a Secret: use letters, digits, '-', '_' and '.'")


class RedisRef(Spec, frozen=True):
    """Where Redis is, and the namespace of the keys in it. None means the operator's default Redis.

    An empty `namespace` means metadata.namespace. Another one is allowed only in a Redis of one's own: in the shared one it would
    open the queues of other namespaces.
    """

    url_secret_ref: SecretKey | None = None
    namespace: str = ""

    def __post_init__(self) -> None:
        if self.namespace and self.url_secret_ref is None:
            raise ValueError("namespace needs urlSecretRef: only a Redis of your own may hold keys of another namespace")
        if self.namespace:
            try:
                check_namespace(self.namespace)
            except Invalid as error:
                raise ValueError(str(error)) from error
