"""Credentials for Redis, by an operator of the test's own: who gets which, who may not, and what happens when one is missing."""

import base64
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.operator.apiserver import ApiServer, running_api_server
from tests.operator.conftest import namespace_in
from tests.operator.operating import Cluster, Operator, running_operator, until
from tests.redis_servers import Server, running_valkey

MASTER = "the-operators-own-password"
Start = Callable[..., AbstractContextManager[Operator]]


@pytest.fixture(scope="module")
def unattended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server without the operator that other tests share: it would make Secrets for its Redis."""
    with running_api_server(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture
async def shop(unattended: ApiServer) -> AsyncIterator[Cluster]:
    async with namespace_in(unattended) as made:
        yield made


@pytest.fixture
async def bank(unattended: ApiServer) -> AsyncIterator[Cluster]:
    async with namespace_in(unattended) as made:
        yield made


@pytest.fixture
def locked() -> Iterator[Server]:
    """A Redis that wants a password."""
    with running_valkey("--requirepass", MASTER) as server:
        yield server


def url_of(server: Server, user: str = "", password: str = MASTER) -> str:
    return f"redis://{user}:{password}@127.0.0.1:{server.port}/0"


@pytest.fixture
def start(unattended: ApiServer, shop: Cluster, bank: Cluster, tmp_path: Path) -> Start:
    """Starts an operator for both namespaces."""
    here = {"STOKER_WATCH_NAMESPACES": f"{shop.namespace},{bank.namespace}", "STOKER_RESYNC": "500ms"}

    def started(redis_url: str, **settings: str) -> AbstractContextManager[Operator]:
        folder = tmp_path / f"operator-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return running_operator(unattended, redis_url, folder, **here, **settings)

    return started


async def secret(cluster: Cluster, name: str = "stoker-redis") -> dict[str, str]:
    """The decoded Secret, once it is there."""

    async def found() -> Any:
        return await cluster.get("secrets", name)

    return {key: base64.b64decode(value).decode() for key, value in (await until(found))["data"].items()}


def login(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, retry=None)


def works(url: str, namespace: str) -> bool:
    """Whether this URL may write into the namespace."""
    with closing(login(url)) as client:
        try:
            return bool(client.hset(f"{{{namespace}:emails}}:meta", "test", "1") in (0, 1))
        except (redis.AuthenticationError, redis.ConnectionError, redis.exceptions.NoPermissionError):
            return False


async def eventually_works(url: str, namespace: str) -> None:
    async def holds() -> bool:
        return works(url, namespace)

    await until(holds)


async def deployment_text(cluster: Cluster, name: str) -> str:
    return json.dumps(await cluster.workers(name))


async def test_each_namespace_gets_a_user_of_its_own_and_no_manifest_shows_a_password(
    shop: Cluster, bank: Cluster, locked: Server, start: Start
) -> None:
    with start(url_of(locked)) as operator:
        for namespace in (shop, bank):
            await namespace.apply("emails")
        own, foreign = await secret(shop), await secret(bank)
        texts = [await deployment_text(shop, "emails"), await deployment_text(bank, "emails")]
        await shop.condition("emails", "Ready", "True", "ScaledToZero")
    passwords = [each["STOKER_REDIS_URL"].split(":")[2].partition("@")[0] for each in (own, foreign)]
    assert own == {
        "STOKER_REDIS_URL": url_of(locked, f"stoker.{shop.namespace}", passwords[0]),
        "STOKER_NAMESPACE": shop.namespace,
    }
    reference = {"name": "STOKER_REDIS_URL", "valueFrom": {"secretKeyRef": {"name": "stoker-redis", "key": "STOKER_REDIS_URL"}}}
    assert reference in json.loads(texts[0])["spec"]["template"]["spec"]["containers"][0]["env"]
    assert works(own["STOKER_REDIS_URL"], shop.namespace)
    assert not works(own["STOKER_REDIS_URL"], bank.namespace)
    for hidden in (MASTER, *passwords):
        assert len(hidden) >= 26
        assert not any(hidden in text for text in (*texts, operator.log.read_text()))


async def test_a_sync_writes_no_secret_again_and_a_second_operator_reads_the_first_ones(
    shop: Cluster, locked: Server, start: Start
) -> None:
    with start(url_of(locked)), start(url_of(locked)):
        await shop.apply("emails")
        found = await secret(shop)
        await eventually_works(found["STOKER_REDIS_URL"], shop.namespace)
        version = (await shop.get("secrets", "stoker-redis"))["metadata"]["resourceVersion"]
        for name in ("invoices", "reports"):
            await shop.apply(name)
            await shop.condition(name, "Ready", "True", "ScaledToZero")
    with start(url_of(locked)):
        await shop.apply("letters")
        await shop.condition("letters", "Ready", "True", "ScaledToZero")
    assert (await shop.get("secrets", "stoker-redis"))["metadata"]["resourceVersion"] == version
    assert works(found["STOKER_REDIS_URL"], shop.namespace)


async def test_a_redis_that_comes_back_without_users_gets_them_again(shop: Cluster, locked: Server, start: Start) -> None:
    with start(url_of(locked)):
        await shop.apply("emails")
        url = (await secret(shop))["STOKER_REDIS_URL"]
        await eventually_works(url, shop.namespace)
        locked.stop()
        await shop.condition("emails", "RedisReachable", "False", "RedisUnreachable")
        locked.start()
        await eventually_works(url, shop.namespace)
        await shop.condition("emails", "RedisReachable", "True", "Connected")
        with closing(login(url_of(locked))) as master:
            master.execute_command("ACL", "DELUSER", f"stoker.{shop.namespace}")
        await eventually_works(url, shop.namespace)


async def test_a_deleted_secret_is_replaced_and_rolls_the_workers(shop: Cluster, locked: Server, start: Start) -> None:
    """The way to a new password."""
    with start(url_of(locked)):
        await shop.apply("emails")
        before, workers = await secret(shop), await shop.workers("emails")
        await shop.call("DELETE", shop.path("secrets", "stoker-redis"))

        async def rolled() -> bool:
            return bool((await shop.workers("emails"))["spec"]["template"] != workers["spec"]["template"])

        await until(rolled)
        after = await secret(shop)
        assert works(after["STOKER_REDIS_URL"], shop.namespace)
        assert not works(before["STOKER_REDIS_URL"], shop.namespace)


async def test_a_tenant_who_rewrites_its_secret_gets_no_other_user(
    shop: Cluster, bank: Cluster, locked: Server, start: Start
) -> None:
    """Whoever may edit Secrets in one namespace must not set the password of another's user."""
    with start(url_of(locked)):
        await shop.apply("emails")
        await bank.apply("emails")
        foreign, own = await secret(bank), await secret(shop)
        stolen = own["STOKER_REDIS_URL"].replace(f"stoker.{shop.namespace}", f"stoker.{bank.namespace}")
        for content in ({"STOKER_REDIS_URL": stolen}, {"STOKER_REDIS_URL": "redis://"}, {"STOKER_NAMESPACE": bank.namespace}):
            await shop.patch("secrets", "stoker-redis", {"stringData": own | content})
            trouble = await shop.condition("emails", "Ready", "False", "CredentialsMismatch")
            assert f"kubectl delete secret stoker-redis --namespace {shop.namespace}" in trouble["message"]
            assert stolen not in trouble["message"]
            await shop.patch("secrets", "stoker-redis", {"stringData": own})
            await shop.condition("emails", "Ready", "True", "ScaledToZero")
        assert works(foreign["STOKER_REDIS_URL"], bank.namespace)
        assert not works(stolen, bank.namespace)


def command(message: str) -> str:
    return message[message.index("kubectl create") :]


async def test_where_an_administrator_makes_the_secrets_the_condition_has_the_command(
    shop: Cluster, locked: Server, start: Start
) -> None:
    with start(url_of(locked), STOKER_TENANT_CREDENTIALS="Provided"):
        await shop.apply("emails")
        trouble = await shop.condition("emails", "Ready", "False", "SecretMissing")
        assert command(trouble["message"]) == (
            f"kubectl create secret generic stoker-redis --namespace {shop.namespace}"
            " --from-literal=STOKER_REDIS_URL='redis://USER:PASSWORD@HOST:6379/0'"
            f" --from-literal=STOKER_NAMESPACE={shop.namespace}"
        )
        await shop.secret("stoker-redis", STOKER_REDIS_URL="redis://user:password@redis/0", STOKER_NAMESPACE="elsewhere")

        async def told() -> bool:
            ready = await shop.condition("emails", "Ready", "False", "SecretMissing")
            assert ready["message"] == f"Secret stoker-redis: its key STOKER_NAMESPACE must be {shop.namespace}"
            return True

        await until(told)
        await shop.secret("stoker-redis", STOKER_REDIS_URL="redis://user:password@redis/0", STOKER_NAMESPACE=shop.namespace)
        await shop.condition("emails", "Ready", "True", "ScaledToZero")
        assert "user:password" not in await deployment_text(shop, "emails")
    with closing(login(url_of(locked))) as master:
        assert master.execute_command("ACL", "USERS") == [b"default"]


@pytest.mark.parametrize(
    ("options", "login"),
    [
        pytest.param(["--rename-command", "ACL", ""], "", id="no ACL at all"),
        pytest.param(["--user", "few", "on", ">few", "~*", "+@all", "-acl"], "few:few@", id="an operator without the right"),
    ],
)
async def test_a_redis_that_makes_no_users_leaves_it_to_an_administrator(
    shop: Cluster, start: Start, options: list[str], login: str
) -> None:
    with running_valkey(*options) as server, start(server.url.replace("//", f"//{login}")):
        await shop.apply("emails")
        trouble = await shop.condition("emails", "Ready", "False", "CredentialsRefused")
        assert command(trouble["message"]).startswith("kubectl create secret generic stoker-redis")
        # The command works: no Secret is in its way, and one that is not the operator's is taken as it is.
        await shop.create(
            "secrets",
            {
                "metadata": {"name": "stoker-redis"},
                "stringData": {"STOKER_REDIS_URL": server.url, "STOKER_NAMESPACE": shop.namespace},
            },
        )
        await shop.condition("emails", "Ready", "True", "ScaledToZero")


async def test_a_right_to_create_secrets_that_is_missing_is_said(
    unattended: ApiServer, shop: Cluster, locked: Server, start: Start
) -> None:
    await shop.call(
        "POST",
        "/api/v1/namespaces/" + shop.namespace + "/resourcequotas",
        {"metadata": {"name": "none"}, "spec": {"hard": {"secrets": "0"}}},
    )
    quota = partial(
        shop.call,
        "PATCH",
        f"/api/v1/namespaces/{shop.namespace}/resourcequotas/none/status",
        {"status": {"hard": {"secrets": "0"}, "used": {"secrets": "0"}}},
        "application/merge-patch+json",
    )
    await quota()  # as the controller would
    with start(url_of(locked)):
        await shop.apply("emails")
        trouble = await shop.condition("emails", "Ready", "False", "SecretMissing")
        assert "exceeded quota" in trouble["message"]
        assert "kubectl create secret generic stoker-redis" in trouble["message"]


async def test_the_operators_and_the_gateways_passwords_are_made_once(
    unattended: ApiServer, shop: Cluster, bank: Cluster, start: Start
) -> None:
    """As with the chart's Redis, which starts after its Secret is there."""
    system = bank
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    own = {"STOKER_REDIS_SECRET": "password", "STOKER_GATEWAY_SECRET": "gateway", "POD_NAMESPACE": system.namespace}
    url = f"redis://127.0.0.1:{port}/0"
    with start(url, **own) as operator:
        made = await secret(system, "password")
        server = Server("--requirepass", made["password"])
        server.port = port
        server.start()
        try:
            gateway = (await secret(system, "gateway"))["STOKER_REDIS_URL"]
            await eventually_works(gateway, shop.namespace)
            await shop.apply("emails")
            await shop.condition("emails", "RedisReachable", "True", "Connected")
            await system.call("DELETE", system.path("secrets", "password"))  # the running server still has it

            async def again() -> bool:
                return await secret(system, "password") == made

            await until(again)
            await system.call("DELETE", system.path("secrets", "gateway"))
            await eventually_works((await secret(system, "gateway"))["STOKER_REDIS_URL"], shop.namespace)
            assert not works(gateway, shop.namespace)
            gateway = (await secret(system, "gateway"))["STOKER_REDIS_URL"]
            with closing(login(gateway)) as client, pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command("ACL", "USERS")
        finally:
            server.stop()
        assert made["password"] not in operator.log.read_text()
