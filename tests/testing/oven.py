"""Application of test_kit.py: a task that runs in a child process, which imports this module."""

import os

from stoker import Stoker

app = Stoker("oven")


@app.task(executor="process")
def bake(number: int) -> list[int]:
    return [number, os.getpid()]
