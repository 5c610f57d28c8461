"""One life of a task on every kind of Redis: one server, sentinels, a cluster, TLS, a socket, and the oldest that is promised."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from stoker.errors import RedisRefused, RedisUnavailable
from stoker.queue.broker import Broker, pulse
from stoker.queue.health import check_server
from stoker.queue.keys import Keys
from stoker.queue.scripts import run_blocking
from stoker.redis.connect import ThreadClient, connect
from stoker.rules.admission import Admission
from stoker.rules.states import TaskState
from tests.engine.line import DONE, Line, message, open_line
from tests.redis_servers import Kind, Valkey, running_valkey
from tests.redis_topologies import Certificates, ClusterOf, make_certificates, running_cluster, running_sentinels, running_tls

QUEUES = [f"queue-{number}" for number in range(9)]  # enough to have some on every node


@pytest.fixture(scope="module", params=list(Kind), ids=lambda kind: kind.value)
def single(request: pytest.FixtureRequest) -> Iterator[str]:
    with running_valkey(kind=request.param) as server:
        yield server.url


@pytest.fixture(scope="module", params=[Kind.VALKEY_9, Kind.REDIS_7], ids=lambda kind: kind.value)
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterOf]:
    with running_cluster(request.param) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def sentinels() -> Iterator[str]:
    with running_sentinels(Kind.VALKEY_9) as found:
        yield found.url


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_port(certificates: Certificates) -> Iterator[int]:
    with running_tls(certificates) as port:
        yield port


async def test_one_server(single: str):
    await a_life(single)


async def test_the_master_behind_sentinels(sentinels: str):
    await a_life(sentinels)


async def test_a_cluster(cluster: ClusterOf):
    await a_life(cluster.url)


async def test_tls_where_both_sides_show_a_certificate(tls_port: int, certificates: Certificates):
    await a_life(f"rediss://127.0.0.1:{tls_port}/0?{certificates.query}")


async def test_a_unix_socket(tmp_path: Path):
    with running_valkey("--unixsocket", f"{tmp_path}/redis.sock"):
        await a_life(f"unix://{tmp_path}/redis.sock")


async def a_life(url: str) -> None:
    """Enqueued, listed, waited for, fetched, kept alive, settled, looked at."""
    async with open_line(url) as line:
        await check_server(line.redis)
        await line.inspector.ping()
        await line.broker.register()
        assert "emails" in await line.inspector.queues()
        waiting = asyncio.create_task(line.broker.wait_for_work(5))
        await line.enqueue("high", priority=5)
        await line.enqueue(*(f"n{number:03}" for number in range(450)))
        await line.enqueue("later", delay=60)
        assert await waiting
        first, second = await line.fetch(2)
        assert (first.id, second.id) == ("high", "n000")
        assert await asyncio.to_thread(beat, url, line, {first.fence: first.id, "gone": "n007"}) == ["gone"]
        assert await line.settle(first, DONE)
        assert not await line.settle(first, DONE), "its lease is over"
        assert await line.settle(second, DONE)
        assert (await line.status("high")).state is TaskState.SUCCEEDED
        assert (await line.inspector.find("later")).state is TaskState.SCHEDULED
        assert len((await line.inspector.tasks("emails", TaskState.READY, limit=100)).tasks) == 100
        assert (await line.stats()).ready == 449


def beat(url: str, line: Line, held: dict[str, str]) -> list[str]:
    """What the heartbeat's thread does, with a client of its own."""
    redis = ThreadClient(url)
    try:
        return pulse(run_blocking(redis, line.broker.heartbeat_call("w", b"{}", held))).lost
    finally:
        redis.close()


async def test_queues_on_all_nodes_are_read_at_once(cluster: ClusterOf):
    redis = connect(cluster.url)
    async with open_line(cluster.url) as line:
        for size, queue in enumerate(QUEUES, 1):
            await Broker(redis, Keys("test", queue)).enqueue([Admission(message(f"t{number}")) for number in range(size)])
        assert len({cluster.owner(Keys("test", queue).ready).port for queue in QUEUES}) == 3
        found = await line.inspector.stats(QUEUES)
        assert [(stats.queue, stats.ready) for stats in found] == list(zip(QUEUES, range(1, 10), strict=True))
    await redis.aclose()


async def test_tls_with_the_files_of_the_environment(tls_port: int, certificates: Certificates, monkeypatch: pytest.MonkeyPatch):
    """As in a worker pod: the URL is in one Secret, the certificates are mounted from others."""
    for variable, file in (("STOKER_REDIS_CA", "ca.crt"), ("STOKER_REDIS_CERT", "client.crt"), ("STOKER_REDIS_KEY", "client.key")):
        monkeypatch.setenv(variable, str(certificates.folder / file))
    redis = connect(f"rediss://127.0.0.1:{tls_port}/0")
    try:
        await check_server(redis)
    finally:
        await redis.aclose()


async def test_tls_with_certificates_in_the_url_of_a_tenant(tls_port: int, certificates: Certificates):
    """As the operator connects: no file of its own may be named."""
    files = {"ssl_ca_data": "ca.crt", "ssl_cert_data": "client.crt", "ssl_key_data": "client.key"}
    query = urlencode({option: (certificates.folder / file).read_text() for option, file in files.items()})
    redis = connect(f"rediss://127.0.0.1:{tls_port}/0?{query}", foreign=True)
    try:
        await check_server(redis)
    finally:
        await redis.aclose()


async def test_a_server_of_an_unknown_authority_is_refused(tls_port: int):
    redis = connect(f"rediss://127.0.0.1:{tls_port}/0")
    with pytest.raises(RedisRefused, match=r"TLS with Redis fails: check ssl_ca_certs.*certificate verify failed"):
        await Broker(redis, Keys("test", "emails")).register()
    await redis.aclose()


async def test_a_client_without_a_certificate_gets_nowhere(tls_port: int, certificates: Certificates):
    redis = connect(f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificates.folder}/ca.crt")
    with pytest.raises((RedisRefused, RedisUnavailable)):  # the server's reason may or may not arrive before the connection ends
        await Broker(redis, Keys("test", "emails")).register()
    await redis.aclose()


async def test_the_wrong_kind_of_url_is_refused_with_the_right_one(cluster: ClusterOf, sentinels: str, own_valkey: Valkey):
    node, sentinel = f"redis://127.0.0.1:{cluster.masters[0].port}", sentinels.split(",")[0].replace("+sentinel", "")
    for url, advice in (
        (node, "write redis\\+cluster://"),
        (sentinel, "write redis\\+sentinel://"),
        (own_valkey.url.replace("redis:", "redis+cluster:"), "write redis://"),
        (sentinels.replace("/main", "/mane"), r"know no master of the URL's name: correct it \('mane'; they know main\)"),
    ):
        redis = connect(url)
        with pytest.raises(RedisRefused, match=advice):
            await check_server(redis)
        await redis.aclose()


async def test_sentinels_with_a_password():
    with running_sentinels(Kind.REDIS_7, password="secret") as found:
        await a_life(f"{found.url}?sentinel_password=secret")
        redis = connect(found.url)
        with pytest.raises(RedisRefused, match="the sentinels refuse these credentials: give sentinel_username"):
            await check_server(redis)
        await redis.aclose()
