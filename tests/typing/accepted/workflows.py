"""Chains and groups: each link takes what the one before gives."""

from typing import assert_type

from stoker import Chain, Context, DeadTask, Group, Handle, Prepared, Stoker, WorkflowHandle, chain, cron, every, group

app = Stoker("shop")


@app.task()
async def fetch(url: str) -> bytes:
    return url.encode()


@app.task()
def measure(page: bytes, factor: int = 1) -> int:
    return len(page) * factor


@app.task()
async def total(ctx: Context, sizes: list[int], note: str = "") -> str:
    return f"{sum(sizes)} {note} {ctx.id}"


@app.task()
async def announce() -> None: ...


@app.task(schedule=cron("0 3 * * *", time_zone="Europe/Zurich"))
async def nightly() -> None: ...


@app.task(schedule=every(300))
async def often(ctx: Context) -> None: ...


app.schedule("weekly", cron("0 3 * * 1"), fetch.prepare("https://example.org"))


@app.on_dead
@app.task()
async def page(dead: DeadTask, level: int = 1) -> None: ...


@app.task()
def count_deaths() -> None: ...


@app.task(on_dead=count_deaths)
async def pay() -> None: ...


@app.task(on_dead=page)
async def ship(order: int) -> str:
    return str(order)


@app.task(on_dead="page")
async def bill(ctx: Context) -> int:
    return ctx.max_retries if ctx.last_attempt else 0


async def link() -> None:
    assert_type(await ship.enqueue(7), Handle[str])
    await ship.options(on_success=announce.prepare(), on_failure=[page.piped(), page.piped(level=2)]).enqueue(7)
    await group(ship.prepare(7), on_failure=page.piped()).enqueue()


async def enqueue() -> None:
    one: Chain[object, int] = chain(fetch.prepare("https://example.org"), measure.piped())
    handle = await one.enqueue()
    assert_type(handle, WorkflowHandle[int])
    assert_type(await handle.result(timeout=10), int)
    link: Prepared[bytes, int] = measure.piped(factor=2)
    later: Prepared[bytes, int] = measure.options(delay=5).piped(factor=2)
    both: Group[bytes, list[int]] = group(link, later)
    assert_type(await (await chain(fetch.prepare("a"), both, total.piped(note="pages")).enqueue()).result(), str)
    pages = group(*[chain(fetch.prepare(url), measure.piped()) for url in ("a", "b")])
    assert_type(await (await pages.enqueue()).result(), list[int])
    assert_type(await (await chain(pages, total.piped(), announce.prepare()).enqueue()).result(), None)


async def send_from_a_task(ctx: Context) -> str:
    ctx.enqueue(chain(fetch.prepare("a"), measure.piped()))
    return ctx.enqueue(fetch.prepare("a"))
