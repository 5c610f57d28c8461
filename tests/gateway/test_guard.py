"""A web page cannot reach the gateway through the browser of a person who can."""

import httpx
import pytest

from stoker.client.client import Client
from stoker.gateway.app import create_app
from stoker.gateway.guard import Hosts, _service_suffixes

SEARCH = "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
LOOPBACK = Hosts(["stoker.example.org"], loopback=True)
POD = Hosts(["stoker.example.org"], suffixes=_service_suffixes(SEARCH))


@pytest.mark.parametrize(
    ("host", "loopback", "pod"),
    [
        pytest.param("localhost:8080", True, True, id="localhost"),
        pytest.param("LOCALHOST.", True, True, id="in capitals, from the root"),
        pytest.param("app.localhost", True, True, id="a name below localhost"),
        pytest.param("127.0.0.1:8080", True, True, id="the loopback address"),
        pytest.param("[::1]:8080", True, True, id="that of IPv6"),
        pytest.param("stoker.example.org", True, True, id="a listed name"),
        pytest.param("stoker.example.org:443", True, True, id="with a port"),
        pytest.param("evil.example.org", False, False, id="a rebound domain"),
        pytest.param("stoker.example.org.evil.org", False, False, id="a listed name in front"),
        pytest.param("localhost.evil.org", False, False, id="localhost in front"),
        pytest.param("127.0.0.1.evil.org", False, False, id="an address in front"),
        pytest.param("a.svc.evil.org", False, False, id="svc in the middle"),
        pytest.param("10.1.2.3:8080", False, True, id="the pod's address, of a probe or a scrape"),
        pytest.param("[fd00::7]:8080", False, True, id="that of IPv6, of a probe"),
        pytest.param("stoker-gateway", False, True, id="a Service"),
        pytest.param("stoker-gateway.shop", False, True, id="with its namespace"),
        pytest.param("stoker-gateway.shop.svc", False, True, id="with svc"),
        pytest.param("stoker-gateway.other.svc.cluster.local:8080", False, True, id="from another namespace"),
        pytest.param("user@localhost", False, False, id="a user"),
        pytest.param("localhost:port", False, False, id="no port"),
        pytest.param("[::1", False, False, id="half an address"),
    ],
)
def test_the_names_it_answers_to(host: str, loopback: bool, pod: bool) -> None:
    assert (LOOPBACK.allow(host), POD.allow(host)) == (loopback, pod)


@pytest.fixture
async def local(client: Client) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(client, hosts=LOOPBACK), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8080")


async def test_a_rebound_domain_reads_nothing(local: httpx.AsyncClient) -> None:
    for path in ("/v1/stats", "/metrics", "/docs", "/livez"):
        answer = await local.get(path, headers={"Host": "evil.example.org:8080"})
        assert (answer.status_code, answer.json()["type"]) == (421, "urn:stoker:problem:misdirected-request")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 404, id="no browser"),
        pytest.param({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8080"}, 404, id="our own page"),
        pytest.param({"Sec-Fetch-Site": "none"}, 404, id="the person"),
        pytest.param({"Origin": "https://stoker.example.org"}, 404, id="a page of a listed name"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, 403, id="another site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="another port of this machine"),
        pytest.param({"Origin": "http://localhost:3000"}, 403, id="another port, in an old browser"),
        pytest.param({"Origin": "http://evil.example.org"}, 403, id="another site, in an old browser"),
        pytest.param({"Origin": "null"}, 403, id="a frame without an origin"),
        pytest.param({"Origin": "http://[localhost:8080"}, 403, id="no origin at all"),
    ],
)
async def test_a_page_of_another_site_changes_nothing(local: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    for method, path in (("POST", "/v1/dead/a/redrive?queue=q"), ("DELETE", "/v1/dead/a?queue=q")):
        assert (await local.request(method, path, headers=headers)).status_code == status


async def test_a_path_with_a_slash_too_many_is_not_redirected(local: httpx.AsyncClient) -> None:
    assert (await local.get("/v1/stats/")).status_code == 404
