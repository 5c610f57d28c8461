"""Where a tenant's Redis may be: hosts by name, addresses by network, never what is the pod's, the cluster's or the cloud's own."""

import asyncio
import socket
from typing import Any

import pytest

from stoker.redis.connect import ANSWER_TIMEOUT, connect
from stoker.redis.single import SingleServer
from stoker.rules.identity import QueueId
from stoker_operator.allowed_redis import AllowedRedis, NotAllowed
from stoker_operator.queues.names import NamesLoop
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.state.problem import Problem
from stoker_operator.state.redis_problem import redis_not_allowed
from tests.redis_servers import Kind, Valkey
from tests.redis_topologies import running_sentinels

API_SERVER = "10.96.0.1"
QUEUE = [[QueueId("shop", "a")]]


@pytest.mark.parametrize(
    ("allowed", "url", "admitted"),
    [
        pytest.param("", "redis://redis.example.org", True, id="any name"),
        pytest.param("", "redis://10.1.2.3:6380/1", True, id="any address"),
        pytest.param("", "redis://169.254.169.254", False, id="the cloud's metadata"),
        pytest.param("", "redis://[fd00:ec2::254]:80", False, id="metadata by IPv6"),
        pytest.param("", "redis://[::ffff:169.254.169.254]", False, id="metadata as IPv4 in IPv6"),
        pytest.param("", "redis://169.254.1.1", False, id="link-local"),
        pytest.param("", "redis://[fe80::1]", False, id="link-local by IPv6"),
        pytest.param("", "redis://127.0.0.1:9090", False, id="the operator's own pod"),
        pytest.param("", "redis://[::1]", False, id="the pod by IPv6"),
        pytest.param("", "redis://0.0.0.0", False, id="the pod as no address"),
        pytest.param("", "rediss://10.96.0.1:443", False, id="the API server"),
        pytest.param("", "redis+sentinel://redis-1,169.254.169.254/main", False, id="one of the sentinels"),
        pytest.param("", "redis+cluster://redis-1,127.0.0.1", False, id="one of the nodes"),
        pytest.param("127.0.0.0/8", "redis://127.0.0.1", True, id="loopback where it is listed"),
        pytest.param("*,169.254.0.0/16", "redis://169.254.169.254", False, id="metadata within a network"),
        pytest.param("*,169.254.169.254", "redis://169.254.169.254", True, id="metadata by its address"),
        pytest.param("*,10.96.0.1/32", "redis://10.96.0.1", True, id="the API server by its address"),
        pytest.param("redis.example.org", "redis://redis.example.org:6380", True, id="a listed name"),
        pytest.param("redis.example.org", "redis://REDIS.example.org.", True, id="in capitals, with the root's dot"),
        pytest.param("redis.example.org", "redis://other.example.org", False, id="another name"),
        pytest.param("redis.example.org", "redis://10.1.2.3", False, id="an address beside names"),
        pytest.param("redis.example.org:6379", "redis://redis.example.org:22", False, id="another port"),
        pytest.param("*:6379", "redis://10.1.2.3", True, id="any host at a port"),
        pytest.param("*:6379", "redis://10.1.2.3:22", False, id="any host at another port"),
        pytest.param("*.example.org", "redis://a.b.example.org", True, id="a subdomain"),
        pytest.param("*.example.org", "redis://example.org", False, id="the domain itself"),
        pytest.param("*.example.org", "redis://badexample.org", False, id="a name that only ends so"),
        pytest.param("10.1.0.0/16", "redis://10.1.2.3", True, id="an address of a network"),
        pytest.param("10.1.0.0/16", "redis://10.2.0.1", False, id="an address of none"),
        pytest.param("10.1.0.0/16", "redis://anything", True, id="a name that may lead into a network"),
    ],
)
def test_what_a_url_may_name(allowed: str, url: str, admitted: bool) -> None:
    known = AllowedRedis.parse(allowed, API_SERVER)
    if admitted:
        known.check_url(url)
        return
    with pytest.raises(NotAllowed) as refused:
        known.check_url(url)
    assert str(refused.value) == ""


def test_outside_of_a_pod_loopback_is_like_any_other_address() -> None:
    AllowedRedis.parse("").check_url("redis://localhost")
    AllowedRedis.parse("").check_url("redis://127.0.0.1")
    with pytest.raises(NotAllowed):
        AllowedRedis.parse("redis.example.org").check_url("redis://127.0.0.1")


@pytest.mark.parametrize("text", ["http://a", "a:99999", "10.0.0.0/99", "a b/c", "user@host"])
def test_a_list_that_cannot_be_read_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"bad host .*: write name, "):
        AllowedRedis.parse(text)


def problem_of(url: str, allowed: AllowedRedis, names: dict[str, str]) -> Problem | None:
    """What the operator's own loop finds there, where these names lead to these addresses."""

    def look_up(host: Any, *rest: Any) -> Any:
        return socket.getaddrinfo(names.get(host, host), *rest)

    async def read() -> Problem | None:
        pool = RedisPool(5.0, allowed=allowed)
        [reading] = await pool.probe(url, QUEUE)
        await pool.close()
        return reading.problem

    with asyncio.Runner(loop_factory=lambda: NamesLoop(look_up, allowed)) as runner:
        return runner.run(read())


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster"])
def test_a_name_that_leads_to_a_refused_address_is_refused_when_the_connection_is_made(scheme: str) -> None:
    """Also where it led elsewhere a moment ago: what was looked up is what is connected to."""
    names = {"redis.example.org": "127.0.0.1"}
    for text in ("", "redis.example.org"):
        assert problem_of(f"{scheme}://redis.example.org:1", AllowedRedis.parse(text, API_SERVER), names) == redis_not_allowed()


def test_a_name_that_leads_into_an_allowed_network_is_read(shared_valkey: Valkey) -> None:
    names = {"redis.example.org": "127.0.0.1"}
    url = f"redis://redis.example.org:{shared_valkey.port}/0"
    for text in ("127.0.0.0/8", "redis.example.org,127.0.0.1"):
        assert problem_of(url, AllowedRedis.parse(text, API_SERVER), names) is None
    assert problem_of(url, AllowedRedis.parse("10.0.0.0/8", API_SERVER), names) == redis_not_allowed()


@pytest.mark.nightly
def test_a_sentinel_cannot_lead_elsewhere() -> None:
    """It names the address of the master, and the operator would send it the URL's password."""
    with running_sentinels(Kind.VALKEY_9) as sentinels:
        hosts = sentinels.url.partition("://")[2].partition("/")[0].split(",")
        names = {f"sentinel-{at}": "127.0.0.1" for at in range(len(hosts))}
        url = sentinels.url
        for at, host in enumerate(hosts):
            url = url.replace(host, f"sentinel-{at}:{host.rpartition(':')[2]}")
        assert problem_of(url, AllowedRedis.parse("sentinel-0,sentinel-1,sentinel-2,127.0.0.0/8"), names) is None
        assert problem_of(url, AllowedRedis.parse("sentinel-0,sentinel-1,sentinel-2"), names) == redis_not_allowed()


async def test_the_operators_own_redis_is_not_asked_about(shared_valkey: Valkey) -> None:
    nothing = AllowedRedis.parse("nowhere.example.org", API_SERVER)
    pool = RedisPool(5.0, lambda: shared_valkey.url, allowed=nothing)
    assert [each.problem for each in await pool.probe(shared_valkey.url, QUEUE)] == [None]
    other = f"{shared_valkey.url}?client_name=tenant"
    assert [each.problem for each in await pool.probe(other, QUEUE)] == [redis_not_allowed()]
    await pool.close()


@pytest.mark.parametrize("patience", [1_000_000, 2])
async def test_timeouts_of_a_tenants_url_are_at_most_the_defaults(shared_valkey: Valkey, patience: int) -> None:
    """A Redis that never answers would else keep what is sent to it for ever."""
    url = f"{shared_valkey.url}?socket_timeout={patience}&max_connections={patience}"
    redis = connect(url, foreign=True)
    assert isinstance(redis, SingleServer)
    assert redis._connector.answer_timeout == min(patience, ANSWER_TIMEOUT)
    assert redis._connector.max_blocking == min(patience, 64)
    await redis.aclose()
