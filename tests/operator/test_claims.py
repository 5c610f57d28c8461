"""The claim of a TaskQueue moves with the URL of its Redis, and is never free where that is the same Redis."""

from collections.abc import AsyncIterator, Sequence

import pytest

from stoker.queue.reads.inspector import Inspector
from stoker.redis.connect import connect
from stoker.rules.identity import Holder, QueueId
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.reconcile.claims import Claim, leave, same_server
from stoker_operator.state.findings import Reading
from stoker_operator.state.problem import Problem
from tests.operator.operating import unique
from tests.redis_servers import Valkey, free_port

OWN = Holder("here", "shop", "emails", "uid-1")
STRANGER = Holder("there", "shop", "emails", "uid-2")


class Besieged:
    """Claims, while a stranger asks for the queue after every call."""

    def __init__(self, pool: RedisPool, url: str) -> None:
        self._pool, self._url = pool, url
        self.fallen = False

    async def claim(self, url: str, queue: QueueId, holder: Holder, instead_of: Holder | None = None) -> Holder | Problem:
        held = await self._pool.claim(url, queue, holder, instead_of)
        await self._ask(queue)
        return held

    async def release(self, url: str, queue: QueueId, holder: Holder) -> None:
        await self._pool.release(url, queue, holder)
        await self._ask(queue)

    async def read(self, url: str, queues: Sequence[Sequence[QueueId]]) -> list[Reading]:
        return await self._pool.read(url, queues)

    async def _ask(self, queue: QueueId) -> None:
        self.fallen |= await self._pool.claim(self._url, queue, STRANGER) == STRANGER


@pytest.fixture
async def pool() -> AsyncIterator[RedisPool]:
    pool = RedisPool(timeout=5.0)
    yield pool
    await pool.close()


async def test_another_url_of_the_same_redis_keeps_the_claim(pool: RedisPool, shared_valkey: Valkey) -> None:
    queue = QueueId("shop", unique("emails"))
    before = Claim(shared_valkey.url, queue, OWN)
    now = before._replace(url=f"redis://localhost:{shared_valkey.port}")
    claims = Besieged(pool, shared_valkey.url)
    assert await claims.claim(*before) == await claims.claim(*now) == OWN
    assert await leave(claims, before, now) is False
    assert not claims.fallen
    assert await pool.claim(shared_valkey.url, queue, STRANGER) == OWN


async def test_another_redis_frees_the_claim_in_the_former_one(pool: RedisPool, shared_valkey: Valkey, own_valkey: Valkey) -> None:
    queue = QueueId("shop", unique("emails"))
    before = Claim(shared_valkey.url, queue, OWN)
    now = before._replace(url=own_valkey.url)
    assert await pool.claim(*before) == await pool.claim(*now) == OWN
    assert await leave(pool, before, now) is True
    redis = connect(shared_valkey.url)
    assert await Inspector(redis, queue.namespace).release_claim(queue.name) is None
    await redis.aclose()
    assert await pool.claim(own_valkey.url, queue, STRANGER) == OWN


async def test_the_claim_of_another_in_the_former_redis_stays(pool: RedisPool, shared_valkey: Valkey, own_valkey: Valkey) -> None:
    queue = QueueId("shop", unique("emails"))
    await pool.claim(shared_valkey.url, queue, STRANGER)
    assert await leave(pool, Claim(shared_valkey.url, queue, OWN), Claim(own_valkey.url, queue, OWN))
    assert await pool.claim(shared_valkey.url, queue, OWN) == STRANGER


async def test_a_former_redis_that_is_gone_ends_nothing(pool: RedisPool, own_valkey: Valkey) -> None:
    queue = QueueId("shop", unique("emails"))
    now = Claim(own_valkey.url, queue, OWN)
    await pool.claim(*now)
    assert await leave(pool, now._replace(url=f"redis://127.0.0.1:{free_port()}"), now)
    assert await pool.claim(own_valkey.url, queue, STRANGER) == OWN


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param("redis://anna:new@one:6379/0?client_name=x", True, id="another password"),
        pytest.param("redis://one:6379", True, id="no user, no number"),
        pytest.param("redis://anna:old@two:6379/0", False, id="another host"),
        pytest.param("redis://anna:old@one:6379/1", False, id="another database"),
    ],
)
def test_a_new_password_is_no_move(other: str, same: bool) -> None:
    assert same_server("redis://anna:old@one:6379/0", other) is same
