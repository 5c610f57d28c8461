"""The names of worker processes: the pod's (or machine's), the process' number, and a nonce, so that no two are ever the same."""

import re

_NAME = re.compile(r"(.+)-[0-9]+-[0-9a-f]{6}")
_ODD = re.compile(r"[^A-Za-z0-9.-]")


def process_name(host: str, pid: int, nonce: bytes) -> str:
    """The name of a process on this host; `nonce` has three bytes. Signs that would confuse a fence become dashes."""
    return f"{_ODD.sub('-', host)}-{pid}-{nonce.hex()}"


def runs_on(worker: str, host: str) -> bool:
    """Whether a worker of this name is a process of that host, and not of one whose name only begins alike."""
    found = _NAME.fullmatch(worker)
    return found is not None and found[1] == _ODD.sub("-", host)
