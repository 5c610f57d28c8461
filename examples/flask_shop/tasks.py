"""What the shop writes when nobody waits: invoices."""

from dataclasses import dataclass
from decimal import Decimal

from stoker import Dead, Stoker

app = Stoker("billing")
VAT = Decimal("0.19")


@dataclass
class Line:
    """Some of one thing, at a price."""

    item: str
    price: Decimal
    amount: int = 1


@dataclass
class Invoice:
    """What a customer owes for an order."""

    order: int
    net: Decimal
    total: Decimal


@app.task(queue="invoices", timeout=30)
def write_invoice(order: int, lines: list[Line]) -> Invoice:
    """Add it up. A plain function: it runs in a thread of the worker."""
    if not lines:
        raise Dead(f"order {order} is empty")
    net = sum((line.price * line.amount for line in lines), Decimal())
    return Invoice(order, net, round(net * (1 + VAT), 2))
