"""What is no fit call of a task, in the words of both checkers."""

from typing import assert_type

from stoker import Handle, Retry, Stoker, Task

app = Stoker("shop")


@app.task()
async def send_email(to: str, order: int, *, note: str = "") -> bytes:
    return f"{to} {order} {note}".encode()


@app.task()
def render(order: int) -> dict[str, int]:
    return {"pages": order}


async def enqueue() -> None:
    await send_email.enqueue("a@example.org", "7")  # refused: arg-type reportArgumentType
    await send_email.enqueue("a@example.org")  # refused: call-arg reportCallIssue
    await send_email.enqueue()  # refused: call-arg reportCallIssue
    await send_email.enqueue("a@example.org", 7, "note")  # refused: call-arg reportCallIssue
    await send_email.enqueue("a@example.org", 7, colour="red")  # refused: call-arg reportCallIssue
    await send_email.enqueue("a@example.org", order=7.5)  # refused: arg-type reportArgumentType
    await send_email.options(delay=1).enqueue("a@example.org", "7")  # refused: arg-type reportArgumentType
    await send_email.options(delay=1).enqueue("a@example.org")  # refused: call-arg reportCallIssue
    send_email.enqueue("a@example.org", 7)  # refused: unused-coroutine reportUnusedCoroutine
    send_email.enqueue_sync("a@example.org", "7")  # refused: arg-type reportArgumentType
    send_email.options(delay=1).enqueue_sync("a@example.org")  # refused: call-arg reportCallIssue
    send_email.prepare("a@example.org", "7")  # refused: arg-type reportArgumentType
    send_email.options(delay=1).prepare("a@example.org", "7")  # refused: arg-type reportArgumentType
    await app.enqueue_many([send_email])  # refused: list-item reportArgumentType


async def use_results() -> None:
    handle = await render.enqueue(7)
    number: int = await handle.result()  # refused: assignment reportAssignmentType
    other: Handle[str] = handle  # refused: assignment reportAssignmentType
    assert_type(await handle.result(), dict[str, str])  # refused: assert-type reportAssertTypeFailure
    await handle.result(timeout="10")  # refused: arg-type reportArgumentType
    print(number, other)


async def say_options() -> None:
    send_email.options(delay="1")  # refused: arg-type reportArgumentType
    send_email.options(colour="red")  # refused: call-arg reportCallIssue
    send_email.options(durability="maybe")  # refused: arg-type reportArgumentType


async def call_as_plain_python() -> None:
    await send_email("a@example.org", "7")  # refused: arg-type reportArgumentType
    render()  # refused: call-arg reportCallIssue
    number: int = render(7)  # refused: assignment reportAssignmentType
    print(number)


def take_tasks(task: Task[[int], dict[str, int]]) -> None:
    task.prepare("7")  # refused: arg-type reportArgumentType


take_tasks(send_email)  # refused: arg-type reportArgumentType


@app.task(priority="high")  # refused: arg-type reportArgumentType
async def urgent() -> None: ...


@app.task(executor="fork")  # refused: arg-type reportArgumentType
def forked() -> None: ...


@app.task(retry=Retry(max_retries="3"))  # refused: arg-type reportArgumentType
async def retried() -> None: ...


@app.task(colour="red")  # refused: call-arg reportCallIssue
async def coloured() -> None: ...


@app.task  # refused: call-arg arg-type reportCallIssue
async def without_parentheses() -> None: ...
