"""The whole story on one machine: 0 -> N -> 0 workers while a backlog drains, and one worker killed in the middle.

    make demo            or: python examples/demo.py --tasks 5000

It runs k8s/samples/emails.yaml with processes for pods, sends tasks of examples/shop, and counts at the end.
Exits with 1 when a task was lost.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from stoker import TaskCall
from stoker.errors import StokerError
from stoker.local.manifest_file import load
from stoker.local.namespaces import settled
from stoker.local.stack import Stack, running_stack
from stoker.local.view import watch
from stoker.queue.records import QueueStats

ROOT = Path(__file__).resolve().parent.parent
SHOP = ROOT / "examples" / "shop"
MANIFEST = ROOT / "k8s" / "samples" / "emails.yaml"
sys.path.insert(0, str(SHOP))


async def main(count: int, timeout: float) -> int:
    """Run the demonstration. Returns the exit code."""
    console = Console()
    [queue] = load(MANIFEST)
    with tempfile.TemporaryDirectory(prefix="stoker-demo-") as folder:
        async with running_stack(settled([queue]), "", 0, Path(folder)) as stack:
            os.environ["STOKER_REDIS_URL"] = stack.redis_url
            console.print(f"{MANIFEST.relative_to(ROOT)} on an embedded server, workers as processes; sending {count} tasks")
            sent = await enqueue(count)
            drained = asyncio.Event()
            watching = asyncio.create_task(watch(stack.supervisor, drained, "one worker is killed with -9 on the way", console))
            try:
                async with asyncio.timeout(timeout):
                    peak, killed = await follow(stack, len(sent))
            except TimeoutError:
                console.print(f"[red]not drained within {timeout:g} s")
                return 1
            finally:
                drained.set()
                await watching
            [stats] = await stack.inspector.stats([queue.queue])
            missing = await unaccounted(stack, sent)
    summary(console, stats, len(sent), len(missing), peak, killed)
    return 1 if missing else 0


async def enqueue(count: int) -> list[str]:
    """Send the tasks: mostly mails, some invoices, and one charge in a hundred that cannot succeed."""
    from shop.tasks import app, charge_card, render_invoice, send_email

    calls: list[TaskCall] = []
    for order in range(count):
        if order % 100 == 7:
            calls.append(charge_card.options(id=f"charge-{order}").prepare(order, card="expired"))
        elif order % 10 == 3:
            calls.append(render_invoice.options(id=f"invoice-{order}").prepare(order, lines=order % 7))
        else:
            calls.append(send_email.options(id=f"mail-{order}").prepare(f"customer{order}@example.org", order))
    receipts = await app.enqueue_many(calls)
    await app.close()
    return [receipt.id for receipt in receipts]


async def follow(stack: Stack, count: int) -> tuple[int, str]:
    """Wait until all has ended and all workers are gone, killing one half-way. Returns the peak and who was killed."""
    [(name, fleet)] = stack.supervisor.fleets.items()
    peak, killed = 0, ""
    while True:
        await asyncio.sleep(0.05)
        view = stack.supervisor.views.get(name)
        if view is None or view.stats is None:
            continue
        peak = max(peak, view.working)
        ended = view.stats.totals.succeeded + view.stats.dead
        if not killed and ended > count / 3 and view.stats.running and fleet.working:
            victim = fleet.working[0]
            victim.kill()
            killed = f"{victim.name} (pid {victim.pid})"
        if ended >= count and view.working == view.draining == 0:
            return peak, killed


async def unaccounted(stack: Stack, sent: list[str]) -> list[str]:
    """The tasks that neither wrote into the ledger nor lie in the dead letters."""
    from shop.tasks import LEDGER

    async with Redis.from_url(stack.redis_url, decode_responses=True) as redis:
        ran = set(await redis.hkeys(LEDGER))
    missing = []
    for task_id in sent:
        if task_id not in ran:
            status = await stack.inspector.find(task_id)
            if status.state != "dead":
                missing.append(task_id)
    return missing


def summary(console: Console, stats: QueueStats, sent: int, lost: int, peak: int, killed: str) -> None:
    """The count at the end."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    rows = {
        "enqueued": sent,
        "succeeded": stats.totals.succeeded,
        "retried": f"{stats.totals.retried} attempts",
        "dead": f"{stats.dead} (expired cards)",
        "killed with -9": f"{killed}; {stats.totals.lost} of its tasks ran again elsewhere",
        "lost": f"[bold {'red' if lost else 'green'}]{lost}",
        "peak workers": peak,
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--timeout", type=float, default=180, help="seconds until it counts as failed")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SHOP), os.environ.get("PYTHONPATH")]))
    try:
        sys.exit(asyncio.run(main(arguments.tasks, arguments.timeout)))
    except StokerError as error:
        sys.exit(f"error: {error}")
