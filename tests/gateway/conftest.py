"""The application in this process, on a real server; requests reach it without a socket."""

from collections.abc import AsyncIterator

import httpx
import pytest

from stoker.client.client import Client
from stoker.gateway.app import create_app
from tests.redis_servers import Valkey


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    """What the gateway uses; a test looks behind its back with it."""
    client = Client.at(redis_url, "test")
    yield client
    await client.close()


@pytest.fixture
async def api(client: Client) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(client), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        yield http


@pytest.fixture
async def fragile(own_valkey: Valkey) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway on a server that the test may break (`own_valkey`), with little patience."""
    client = Client.at(own_valkey.url, "test")
    transport = httpx.ASGITransport(create_app(client, patience=1.0), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        yield http
    await client.close()
