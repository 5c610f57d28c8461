"""Test an application's tasks: the real scripts and the real worker, on a test server, with a clock that the test moves.

    async with testing.run(app) as kit:
        await send_email.enqueue("a@example.org")
        await kit.run_until_idle()
        kit.clock.advance(600)

With pytest there are the fixtures `stoker_server` and `stoker_kit`; nothing here needs pytest.
"""

from stoker.testing.clock import Clock
from stoker.testing.kit import Kit, run
from stoker.testing.record import Enqueued, Run
from stoker.testing.server import Server

__all__ = ["Clock", "Enqueued", "Kit", "Run", "Server", "run"]
