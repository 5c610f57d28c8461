"""Names of worker processes: `<pod or host>-<pid>-<nonce>`, unique for all time."""

import re

_NAME = re.compile(r"(.+)-[0-9]+-[0-9a-f]{6}")
_ODD = re.compile(r"[^A-Za-z0-9.-]")


def process_name(host: str, pid: int, nonce: bytes) -> str:
    """The name of a process on this host; `nonce` has three bytes. Characters that a fence cannot contain become dashes."""
    return f"{_ODD.sub('-', host)}-{pid}-{nonce.hex()}"


def runs_on(worker: str, host: str) -> bool:
    """Whether this worker is a process of this host, and not of another whose name has it as a prefix."""
    found = _NAME.fullmatch(worker)
    return found is not None and found[1] == _ODD.sub("-", host)
