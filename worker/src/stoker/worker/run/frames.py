"""The frame of a traceback to blame: the last one in the application's own code, not in a library that it called."""

import sysconfig
from functools import lru_cache
from pathlib import Path
from types import CodeType

_HERE = str(Path(__file__).parents[2])
_PATHS = sysconfig.get_paths()
_PYTHON = (_HERE, _PATHS["stdlib"], _PATHS["platstdlib"], "<")
"""Stoker, the standard library, and code without a file."""
_INSTALLED = (_PATHS["purelib"], _PATHS["platlib"])


def own_frame(error: BaseException) -> str:
    """Module and function of the last frame of the application's own code; '' if there is none.

    Own is what is not installed. An application that is installed itself has no such frame: then the first one, that of the task.
    """
    own = first = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        kind = _kind(code.co_filename)
        if kind == "own" or (kind == "installed" and not first):
            name = _name(trace.tb_frame.f_globals.get("__name__"), code)
            first = first or name
            own = name if kind == "own" else own
        trace = trace.tb_next
    return own or first


def _name(module: object, code: CodeType) -> str:
    return f"{module}.{code.co_qualname.replace('<locals>.', '')}"


@lru_cache(1024)
def _kind(filename: str) -> str:
    # What is installed lies below the standard library, on most systems.
    if filename.startswith(_INSTALLED) and not filename.startswith(_HERE):
        return "installed"
    return "python" if filename.startswith(_PYTHON) else "own"
