"""Credentials of the operator, the gateway and the namespaces: Secrets made once, and the Redis users that follow from them.

A Secret is created if absent and otherwise read, never written again, so that its password outlives a new installation.
The Secret is the truth; the user in Redis is made from it.
"""

import logging

from stoker.errors import NotFound
from stoker_operator.credentials.redis_users import RedisUsers
from stoker_operator.credentials.tenant import (
    NAMESPACE,
    SECRET,
    URL,
    can_be_shared,
    creation_command,
    gateway_user,
    new_password,
    password_in,
    secret,
    selects,
    tenant_data,
    tenant_user,
    url_for,
    user_name,
)
from stoker_operator.kube import Kube, KubernetesConflict, KubernetesRefused, Secret
from stoker_operator.settings import OperatorSettings
from stoker_operator.state.problem import (
    REDIS_AWAY,
    Problem,
    Reason,
    credentials_incomplete,
    credentials_mismatch,
    credentials_missing,
    credentials_refused,
    secret_refused,
)
from stoker_operator.state.ref import FIELD_MANAGER, MANAGED_BY

log = logging.getLogger(__name__)
PASSWORD = "password"  # noqa: S105  a key of the Secret


class Credentials:
    """Belongs to one event loop. All methods raise what Kube raises."""

    def __init__(self, kube: Kube, users: RedisUsers, settings: OperatorSettings) -> None:
        self._kube = kube
        self._users = users
        self._settings = settings
        self._password = ""

    @property
    def url(self) -> str:
        """The URL of the operator's Redis, with its password."""
        return self._users.url

    async def refresh(self) -> None:
        """Read the operator's own password, and see that the gateway has one. Call it before any use of `url`, and now and then."""
        settings = self._settings
        if settings.redis_secret:
            # Deleted meanwhile: the same password again, since the server has it.
            made = {PASSWORD: self._password or new_password()}
            found = await self._read_or_make(settings.namespace, settings.redis_secret, made)
            if not (password := found.data.get(PASSWORD, b"").decode(errors="replace")):
                raise KubernetesRefused(
                    f"Secret {settings.redis_secret} has no key {PASSWORD}: delete it, and the operator makes a new one"
                )
            self._password = password
            self._users.url = url_for(settings.redis_url, "", password)
        if settings.gateway_secret:
            await self._gateway(settings.gateway_secret)

    async def of_namespace(self, namespace: str) -> Secret | Problem:
        """The Secret of a namespace, made if absent, whose Redis user exists; or what is missing."""
        try:
            found = await self._kube.secret(namespace, SECRET)
        except NotFound:
            if self._settings.tenant_credentials == "Provided":
                return credentials_missing(creation_command(namespace))
            return await self._make(namespace)
        if self._settings.tenant_credentials == "Provided" or found.labels.get(MANAGED_BY) != FIELD_MANAGER:
            return _checked(namespace, found)
        return await self._asserted(namespace, found)

    def forget(self, namespace: str) -> None:
        """The namespace has no TaskQueue any more. Its Secret and its user stay as they are."""
        self._users.forget(user_name(namespace))

    async def _make(self, namespace: str) -> Secret | Problem:
        # The user first: where Redis refuses it, the administrator can create the Secret, which must not exist by then.
        data = tenant_data(self.url, namespace, new_password())
        encoded = {key: value.encode() for key, value in data.items()}
        if (problem := await self._assert(namespace, encoded)) is not None:
            self.forget(namespace)
            return problem
        try:
            found = await self._read_or_make(namespace, SECRET, data)
        except KubernetesRefused as error:
            return secret_refused(SECRET, error, creation_command(namespace))
        return found if found.data == encoded else await self._asserted(namespace, found)

    async def _asserted(self, namespace: str, found: Secret) -> Secret | Problem:
        problem = await self._assert(namespace, found.data)
        # While Redis is away nothing is known to be wrong: the user is made when it is back.
        return found if problem is None or problem.reason in REDIS_AWAY else problem

    async def _assert(self, namespace: str, data: dict[str, bytes]) -> Problem | None:
        if not can_be_shared(self.url):
            return credentials_refused(creation_command(namespace))
        password = password_in(data)
        # A tenant may write this Secret: the password may be theirs, the user and the server may not.
        expected = tenant_data(self.url, namespace, password or "")
        if password is None or any(data.get(key) != value.encode() for key, value in expected.items()):
            return credentials_mismatch(SECRET, namespace)
        problem = await self._users.ensure(tenant_user(namespace, password, select=selects(self.url)))
        if problem is not None and problem.reason is Reason.CREDENTIALS_REFUSED:
            self.forget(namespace)
            return credentials_refused(creation_command(namespace))
        return problem

    async def _gateway(self, name: str) -> None:
        made = {URL: url_for(self.url, gateway_user("").name, new_password())}
        found = await self._read_or_make(self._settings.namespace, name, made)
        if (password := password_in(found.data)) is None:
            raise KubernetesRefused(f"Secret {name} has no password of the operator's: delete it, and the operator makes a new one")
        self._users.want(gateway_user(password, select=selects(self.url)))

    async def _read_or_make(self, namespace: str, name: str, data: dict[str, str]) -> Secret:
        try:
            return await self._kube.secret(namespace, name)
        except NotFound:
            pass
        try:
            made = await self._kube.create_secret(namespace, secret(namespace, name, data))
        except KubernetesConflict:  # another operator was faster
            return await self._kube.secret(namespace, name)
        log.info("made Secret %s", name, extra={"namespace": namespace})
        return made


def _checked(namespace: str, found: Secret) -> Secret | Problem:
    """A Secret of an administrator's. Where it leads is not compared: one server has many addresses."""
    if not found.data.get(URL):
        return credentials_incomplete(SECRET, URL, "the URL of the operator's Redis, with a user for this namespace")
    if found.data.get(NAMESPACE) != namespace.encode():
        return credentials_incomplete(SECRET, NAMESPACE, namespace)
    return found
