"""Chains: each link is enqueued by the very step that records the success of the one before."""

from working import working

from stoker import Stoker, chain, group
from stoker.rules.states import State


async def test_each_link_takes_the_result_of_the_one_before(app: Stoker) -> None:
    @app.task()
    async def fetch(url: str) -> str:
        return f"<{url}>"

    @app.task()
    def parse(page: str, upper: bool = False) -> list[str]:
        return [page.upper() if upper else page]

    @app.task()
    async def store(words: list[str], *, bucket: str) -> str:
        return f"{bucket}: {', '.join(words)}"

    handle = await chain(fetch.prepare("a.org"), parse.piped(upper=True), store.piped(bucket="b")).enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == "b: <A.ORG>"
    assert len(handle.ids) == 3
    assert (await handle.status()).state is State.SUCCEEDED


async def test_a_group_runs_side_by_side_and_its_join_once_with_all_results(app: Stoker) -> None:
    joins = []

    @app.task()
    async def square(n: int) -> int:
        return n * n

    @app.task()
    async def total(numbers: list[int], *, offset: int = 0) -> int:
        joins.append(numbers)
        return sum(numbers) + offset

    handle = await chain(group(*(square.prepare(n) for n in range(5))), total.piped(offset=100)).enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == 130
    assert joins == [[0, 1, 4, 9, 16]]


async def test_groups_in_chains_in_groups(app: Stoker) -> None:
    @app.task()
    async def numbers(count: int) -> int:
        return count

    @app.task()
    async def times(n: int, by: int) -> int:
        return n * by

    @app.task()
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task()
    async def flat(lists: list[list[int]]) -> list[int]:
        return [n for inner in lists for n in inner]

    by = group(times.piped(1), times.piped(2))
    handle = await chain(
        numbers.prepare(3), group(chain(by, total.piped()), chain(times.piped(10), by, total.piped())), total.piped()
    ).enqueue()
    nested = await chain(numbers.prepare(1), group(by, by), flat.piped(), total.piped()).enqueue()
    last = await chain(numbers.prepare(5), group(times.piped(1), chain(times.piped(2), times.piped(3)))).enqueue()
    empty = await chain(numbers.prepare(5), group(), total.piped()).enqueue()
    after = await chain(group(numbers.prepare(1), numbers.prepare(2)), group(total.piped(), total.piped())).enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == 9 + 90
        assert await nested.result(timeout=5) == 6
        assert await last.result(timeout=5) == [5, 30]
        assert await empty.result(timeout=5) == 0
        assert await after.result(timeout=5) == [3, 3]
