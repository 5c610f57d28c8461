"""The shop's front: WSGI, so nothing awaits. What needs an event loop is done by one thread a process, behind `enqueue_sync`."""

from typing import Any

import msgspec
from flask import Flask, request, url_for
from tasks import Line, write_invoice

from stoker import Conflict, NotFound, RedisUnavailable, ResultPending, StokerError, TaskFailed

web = Flask(__name__)
STATUS_CODES = {ResultPending: 202, NotFound: 404, Conflict: 409, TaskFailed: 422, RedisUnavailable: 503}
LONGEST_WAIT = 20.0


@web.post("/orders/<int:order>/invoice")
def ask(order: int) -> Any:
    """Have it written. Asked again, it is the same task; with other lines, a conflict."""
    lines = msgspec.convert(request.get_json(), list[Line])
    handle = write_invoice.options(id=f"invoice-{order}").enqueue_sync(order, lines)
    return {"state": handle.status_sync().state}, 202, {"Location": url_for("look", order=order)}


@web.get("/orders/<int:order>/invoice")
def look(order: int) -> Any:
    """The invoice; or, when it is not there within `?wait=` seconds, that it is on its way."""
    handle = write_invoice.handle(f"invoice-{order}")
    handle.status_sync()  # raises NotFound where nobody has asked for it
    invoice = handle.result_sync(timeout=min(request.args.get("wait", 0.0, type=float), LONGEST_WAIT))
    return msgspec.to_builtins(invoice)


@web.errorhandler(StokerError)
def refused(error: StokerError) -> Any:
    """What Stoker says, as HTTP says it."""
    return {"detail": str(error)}, STATUS_CODES.get(type(error), 500)


@web.errorhandler(msgspec.ValidationError)
def malformed(error: msgspec.ValidationError) -> Any:
    """Lines that are none: the customer hears of it, and no task is made."""
    return {"detail": str(error)}, 400
