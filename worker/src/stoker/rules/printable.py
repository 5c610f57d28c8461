"""Text that is not ours, for a terminal or a line of a log."""


def printable(text: str, keep: str = "") -> str:
    """The text with control characters and other unprintable ones escaped, except those of `keep`.

    What a task, a producer or a server wrote must not move a terminal's cursor, set its clipboard, or look like another line.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
