"""examples/mailer: a real SMTP server that is away, busy, or refuses, and that counts what it gets."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from msgspec import Raw

from stoker.client.client import Client
from stoker.rules.call import TaskCall
from tests.examples.stage import Stage, staged
from tests.redis_servers import Server, free_port
from tests.waiting import until

PER_SECOND, BURST = 5, 2


class Postbox:
    """What the SMTP server does with mails: `busy` addresses are refused once for now, `gone` ones for good."""

    def __init__(self) -> None:
        self.attempts: list[tuple[float, str]] = []
        self.mails: list[tuple[str, bytes]] = []
        self.busy: set[str] = set()
        self.gone: set[str] = set()

    async def handle_RCPT(self, _: Any, __: Any, envelope: Any, address: str, ___: Any) -> str:
        self.attempts.append((time.monotonic(), address))
        if address in self.gone:
            return "550 no such user"
        if address in self.busy:
            self.busy.remove(address)
            return "451 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:
        self.mails.append((envelope.rcpt_tos[0], envelope.content))
        return "250 taken"


@pytest.fixture
def postbox() -> Postbox:
    return Postbox()


@pytest.fixture
def smtp(postbox: Postbox) -> Iterator[Controller]:
    """The server, which nobody has started yet."""
    controller = Controller(postbox, hostname="127.0.0.1", port=free_port())
    yield controller
    controller.stop(no_assert=True)


@pytest.fixture
async def stage(own_valkey: Server, tmp_path: Path, smtp: Controller) -> AsyncIterator[Stage]:
    with staged("mailer", own_valkey, tmp_path) as stage:
        stage.environment["SMTP_SERVER"] = f"127.0.0.1:{smtp.port}"
        yield stage


@pytest.fixture
async def client(own_valkey: Server) -> AsyncIterator[Client]:
    client = Client.at(own_valkey.url, "stoker")
    yield client
    await client.close()


def confirmation(order: int) -> TaskCall:
    """What the shop's checkout sends, as any other program would."""
    payload = Raw(b'{"to":"customer%d@example.org","order":%d}' % (order, order))
    return TaskCall("confirm", "mails", payload, idempotency_key=f"order {order}")


async def is_quiet(client: Client) -> bool:
    [stats] = await client.inspector.stats(["mails"])
    return not (stats.ready or stats.running or stats.scheduled)


async def test_a_mail_waits_for_its_server_and_is_sent_once(
    stage: Stage, smtp: Controller, postbox: Postbox, client: Client
) -> None:
    first = await stage.run("python confirm.py")
    assert "will be sent" in first
    await stage.up()
    task_id = first.split()[0]
    await until(lambda: has_failed(client, task_id), 60)
    smtp.start()
    await until(lambda: postbox.mails, 60)
    await until(lambda: is_quiet(client))
    again = await stage.run("python confirm.py")
    assert (again.split()[0], "already" in again) == (task_id, True)
    assert await is_quiet(client)
    [(to, content)] = postbox.mails
    assert to == "ada@example.org"
    assert b"Message-ID: <" + task_id.encode() + b"@shop.example.org>" in content.replace(b"\r\n ", b" ")


async def has_failed(client: Client, task_id: str) -> bool:
    return (await client.status("mails", task_id)).failure is not None


async def test_each_order_is_confirmed_once_and_not_too_fast(
    stage: Stage, smtp: Controller, postbox: Postbox, client: Client
) -> None:
    smtp.start()
    postbox.busy, postbox.gone = {"customer3@example.org"}, {"customer5@example.org"}
    await client.enqueue([confirmation(0)])
    await stage.up()
    await until(lambda: postbox.mails, 60)  # there is a worker, and it has nothing to do

    await client.inspector.pause("mails")
    receipts = await client.enqueue([confirmation(order) for order in range(1, 15)] * 2)
    assert [receipt.duplicate for receipt in receipts] == [False] * 14 + [True] * 14
    begin = time.monotonic()
    await client.inspector.resume("mails")
    await until(lambda: is_quiet(client), 60)

    delivered = Counter(to for to, _ in postbox.mails)
    assert delivered == {f"customer{order}@example.org": 1 for order in range(15) if order != 5}, "each once, also the busy one"
    attempts = Counter(to for _, to in postbox.attempts)
    assert {to: count for to, count in attempts.items() if count > 1} == {"customer3@example.org": 2}
    dead = await client.status("mails", receipts[4].id)
    assert (dead.state, dead.attempts) == ("dead", 1)
    assert dead.failure is not None
    assert "550 no such user" in dead.failure.message

    moments = [moment - begin for moment, _ in postbox.attempts if moment >= begin]
    assert len(moments) == 15
    early = [(count, moment) for count, moment in enumerate(moments, 1) if count > BURST + PER_SECOND * moment + 0.1]
    assert not early, "at no moment had the server seen more of them than the limit lets go"
