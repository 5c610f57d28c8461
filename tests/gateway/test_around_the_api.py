"""Documentation, health, metrics, headers, unknown addresses, unforeseen errors."""

import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from stoker.client.client import Client


@pytest.mark.parametrize(
    ("method", "address", "status"), [("GET", "/nope", 404), ("PUT", "/v1/tasks", 405), ("GET", "/docs/nope.js", 404)]
)
async def test_unknown_addresses_are_problems_too(api: httpx.AsyncClient, method: str, address: str, status: int) -> None:
    answer = await api.request(method, address)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert "/docs" in answer.json()["detail"]
    assert status != 405 or answer.headers["allow"]


async def test_an_unforeseen_error_is_a_problem_without_details(
    api: httpx.AsyncClient, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> list[str]:
        raise LookupError("a secret")

    monkeypatch.setattr(client.inspector.catalogue, "page", broken)
    answer = await api.get("/v1/queues")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


async def test_alive_and_ready(api: httpx.AsyncClient) -> None:
    assert (await api.get("/healthz")).json() == {"status": "alive"}
    assert (await api.get("/readyz")).json() == {"status": "ready"}


async def test_metrics_count_by_route_not_by_address(api: httpx.AsyncClient) -> None:
    for address in ("/v1/tasks/one", "/v1/tasks/two", "/nowhere/1", "/docs/docs.js"):
        await api.get(address)
    await api.post("/v1/tasks", json={"task": "t"})

    families = {family.name: family for family in text_string_to_metric_families((await api.get("/metrics")).text)}
    counted = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for sample in families["stoker_gateway_requests"].samples
        if sample.name.endswith("_total")
    }
    assert counted == {
        ("GET", "/v1/tasks/{task_id:path}", "404"): 2,
        ("GET", "unmatched", "404"): 1,
        ("GET", "/docs/{asset}", "200"): 1,
        ("POST", "/v1/tasks", "202"): 1,
    }
    assert "stoker_gateway_request_duration_seconds" in families
    assert not [name for name in families if name.startswith("stoker_queue")]


async def test_the_documentation_comes_from_here_alone(api: httpx.AsyncClient) -> None:
    assert (await api.get("/")).headers["location"] == "docs"
    page = await api.get("/docs")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert not re.search(r"<script(?![^>]*src=)", page.text)
    links = set(re.findall(r'(?:src|href)="([^"]+)"', page.text))
    assert links == {"data:,", "docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "docs/docs.js", "openapi.json"}
    for link in links - {"data:,"}:
        assert (await api.get("/" + link)).status_code == 200, link
    assert "javascript" in (await api.get("/docs/swagger-ui-bundle.js")).headers["content-type"]


async def test_the_description_is_whole(api: httpx.AsyncClient) -> None:
    answer = await api.get("/openapi.json")
    document = answer.json()
    paths = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    acts = ("run", "pause", "resume", "set", "reset")
    assert paths == {("POST", f"/v1/schedules/{{name}}/{act}") for act in acts} | {
        ("GET", "/v1/schedules"),
        ("GET", "/v1/schedules/{name}/next"),
        ("POST", "/v1/tasks"),
        ("POST", "/v1/tasks/batch"),
        ("GET", "/v1/tasks"),
        ("GET", "/v1/tasks/{task_id}"),
        ("GET", "/v1/stats"),
        ("GET", "/v1/queues"),
        ("GET", "/v1/queues/{queue}"),
        ("GET", "/v1/dead"),
        ("POST", "/v1/dead/redrive"),
        ("POST", "/v1/dead/{task_id}/redrive"),
        ("DELETE", "/v1/dead/{task_id}"),
        ("DELETE", "/v1/queues/{queue}"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
    }
    schemas = document["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', answer.text)) <= set(schemas)
    assert schemas["TaskRequest"]["required"] == ["task"]
    assert "HTTPValidationError" not in schemas


@pytest.mark.parametrize("address", ["/v1/queues", "/nope"])
async def test_answers_are_data_to_a_browser(api: httpx.AsyncClient, address: str) -> None:
    headers = (await api.get(address)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
