"""JSON of the API server, which takes deeper objects than a decoder does."""

import json
import re

from stoker_operator.state.ref import Object

DEEPEST = 60
"""Levels that are kept of a document that no decoder takes. Nothing that the operator reads is deeper."""
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)


def decode(text: bytes) -> Object:
    """An object or a list. Where the nesting is too deep for the decoder, what is deep becomes null and every `spec` is left out.

    The API server takes 10,000 levels, in a payload and in the managedFields that repeat its structure.
    """
    try:
        return dict(json.loads(text))
    except RecursionError:
        found = dict(json.loads(_shallow(text)))
    for each in (found, *(found.get("items") or ())):
        each.pop("spec", None)
    return found


def _shallow(text: bytes) -> bytes:
    """JSON without what lies deeper than `DEEPEST` levels."""
    kept, depth, begin = [], 0, 0
    for token in _STRUCTURE.finditer(text):
        if token[0] in (b"{", b"["):
            depth += 1
            if depth == DEEPEST + 1:
                kept += [text[begin : token.start()], b"null"]
        elif token[0] in (b"}", b"]"):
            depth -= 1
            if depth == DEEPEST:
                begin = token.end()
    return b"".join((*kept, text[begin:]))
