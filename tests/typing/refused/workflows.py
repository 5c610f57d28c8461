"""Links that do not fit each other, and schedules of what cannot be."""

from stoker import Chain, Context, Prepared, Stoker, WorkflowHandle, chain, cron, every, group

app = Stoker("shop")


@app.task()
async def fetch(url: str) -> bytes:
    return url.encode()


@app.task()
def measure(page: bytes, factor: int = 1) -> int:
    return len(page) * factor


@app.task()
async def total(ctx: Context, sizes: list[int]) -> str:
    return f"{sum(sizes)} {ctx.id}"


async def enqueue() -> None:
    page = fetch.prepare("https://example.org")
    wrong: Chain[object, str] = chain(page, measure.piped())  # refused: arg-type reportAssignmentType
    link: Prepared[str, int] = measure.piped()  # refused: assignment reportAssignmentType
    handle: WorkflowHandle[str] = await chain(page, measure.piped()).enqueue()  # refused: assignment reportAssignmentType
    print(wrong, link, handle)
    await chain(page, total.piped()).enqueue()  # refused: misc reportArgumentType
    await chain(page, measure.piped(factor="2")).enqueue()  # refused: arg-type reportArgumentType
    await chain(measure.piped()).enqueue()  # refused: misc reportAttributeAccessIssue
    await group(measure.piped()).enqueue()  # refused: misc reportAttributeAccessIssue
    await chain(fetch).enqueue()  # refused: call-overload reportArgumentType
    await chain().enqueue()  # refused: call-overload reportCallIssue


async def send_from_a_task(ctx: Context) -> None:
    ctx.enqueue(fetch)  # refused: arg-type reportArgumentType


@app.task(schedule="0 3 * * *")  # refused: arg-type reportArgumentType
async def nightly() -> None: ...


@app.task(schedule=every("5 minutes"))  # refused: arg-type reportArgumentType
async def often() -> None: ...


app.schedule("weekly", cron("0 3 * * 1"), fetch)  # refused: arg-type reportArgumentType


@app.task(on_dead=measure)  # refused: arg-type reportArgumentType
async def ship() -> None: ...
