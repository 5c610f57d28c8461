"""An application with a task for a process of its own, which imports this module."""

import os

from stoker import Stoker

app = Stoker("oven")


@app.task(executor="process")
def bake(number: int) -> list[int]:
    return [number, os.getpid()]
