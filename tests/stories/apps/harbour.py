"""Application of test_doctor_on_call.py: two queues with workflows, schedules, unique tasks and limits, all busy at once."""

from stoker import Concurrency, Retry, Stoker, Unique, every

app = Stoker("harbour")
AT_ONCE = Retry(max_retries=3, initial_delay=0.01)


@app.task(queue="default")
async def load(crate: int) -> int:
    return crate + 1


@app.task(queue="ships")
async def sail(crate: int) -> int:
    return crate + 1


@app.task(queue="default")
async def weigh(crates: list[int]) -> int:
    return sum(crates)


@app.task(queue="default", concurrency=Concurrency(key="{crane}", limit=2))
async def lift(crane: str, number: int) -> None: ...


@app.task(queue="default", unique=Unique(until="done"))
async def survey(pier: int) -> None: ...


@app.task(queue="default", retry=AT_ONCE)
async def moor(number: int) -> None:
    raise TimeoutError("no berth")


@app.task(queue="default", schedule=every(1))
async def tide() -> None: ...


@app.task(queue="ships", schedule=every(1))
async def horn() -> None: ...
