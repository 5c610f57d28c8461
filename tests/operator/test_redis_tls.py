"""spec.redis.tls: a Redis that speaks only TLS, and only to clients with a certificate, read by the operator and by the workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker_operator.reconcile.connections import with_certificates
from stoker_operator.state.problem import Problem, Reason
from tests.operator.observed import manifest, task_queue
from tests.operator.operating import Cluster, unique, until
from tests.redis_topologies import Certificates, make_certificates, running_tls

REDIS = {
    "urlSecretRef": {"name": "redis"},
    "tls": {"caSecretRef": {"name": "authority"}, "clientCertSecretRef": {"name": "client"}},
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_port(certificates: Certificates) -> Iterator[int]:
    with running_tls(certificates) as port:
        yield port


def text(certificates: Certificates, file: str) -> str:
    return (Path(certificates.folder) / file).read_text()


async def test_a_live_queue_moves_to_certificates(cluster: Cluster, tls_port: int, certificates: Certificates) -> None:
    name = unique("secure")
    await cluster.secret("redis", url=f"rediss://127.0.0.1:{tls_port}/0")
    await cluster.apply(name, redis={"urlSecretRef": {"name": "redis"}})
    await cluster.condition(name, "RedisReachable", "False", "RedisRefused")  # an unknown authority

    await cluster.apply(name, redis=REDIS)
    missing = await cluster.condition(name, "Ready", "False", "SecretMissing")
    assert "authority" in missing["message"]
    await cluster.secret("authority", **{"ca.crt": text(certificates, "ca.crt")})
    await cluster.secret("client", **{"tls.crt": text(certificates, "client.crt"), "tls.key": text(certificates, "client.key")})
    await cluster.apply(name, redis=REDIS, scaling={"maxReplicas": 5})
    await cluster.condition(name, "RedisReachable", "True", "Connected")

    async def mounted() -> bool:
        found = (await cluster.workers(name))["spec"]["template"]["spec"]
        known = {each["name"]: each.get("value") for each in found["containers"][0]["env"]}
        volumes = {each["name"]: each for each in found["volumes"]}
        assert known["STOKER_REDIS_CA"] == "/var/run/stoker/redis-tls/ca.crt"
        assert known["STOKER_REDIS_KEY"] == "/var/run/stoker/redis-tls/tls.key"
        assert [each["secret"]["name"] for each in volumes["redis-tls"]["projected"]["sources"]] == ["authority", "client"]
        return True

    await until(mounted)
    status = (await cluster.get("taskqueues", name))["status"]
    assert "PRIVATE" not in str(status)


def test_certificates_need_a_url_over_tls() -> None:
    tls = task_queue(redis=REDIS).spec.redis.tls
    problem = with_certificates("redis://h/0", tls, {})
    assert isinstance(problem, Problem)
    assert problem.reason is Reason.INVALID_REDIS_URL
    assert "rediss" in problem.message


def test_a_key_that_is_missing_is_named() -> None:
    tls = task_queue(redis=REDIS).spec.redis.tls
    problem = with_certificates("rediss://h/0", tls, {"authority": {"ca.crt": b"x"}, "client": {"tls.crt": b"x"}})
    assert isinstance(problem, Problem)
    assert problem.message == "Secret client has no key 'tls.key', which spec.redis.tls reads: add it"


def test_without_certificates_nothing_is_mounted() -> None:
    plain = manifest(redis={"urlSecretRef": {"name": "redis"}})["spec"]["template"]["spec"]
    assert [each["name"] for each in plain["volumes"]] == ["tmp"]
