"""Fingerprint of a failure: what dead tasks of one cause have in common, whatever ids and numbers their messages name."""

import re

TEXT_CHARACTERS = 300
MESSAGE_CHARACTERS = 200

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_HEX = re.compile(r"\b0x[0-9a-fA-F]+\b|\b[0-9a-fA-F]{8}-[0-9a-fA-F-]{13,27}\b|\b(?=[a-fA-F]*[0-9])[0-9a-fA-F]{7,}\b")
_NUMBER = re.compile(r"[0-9]+(?:[.,:_-][0-9]+)*")
_SPACE = re.compile(r"\s+")


def normalised(message: str) -> str:
    """A message without what differs from task to task: quoted text, UUIDs and other hex, numbers."""
    text = _QUOTED.sub("'?'", message[: 5 * MESSAGE_CHARACTERS])
    text = _NUMBER.sub("#", _HEX.sub("#", text))
    return _SPACE.sub(" ", text).strip()[:MESSAGE_CHARACTERS]


def fingerprint(kind: str, frame: str, message: str) -> str:
    """The fingerprint in words: type, function of the application that raised ('' unknown), normalised message."""
    where = f" in {frame}" if frame else ""
    text = normalised(message)
    return f"{kind}{where}{': ' + text if text else ''}"[:TEXT_CHARACTERS]
