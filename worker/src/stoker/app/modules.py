"""The modules in which an application's tasks are defined: imported when a worker, a child process or the testing kit loads it.

Not where the application is made: the modules import it from there.
"""

import importlib
import pkgutil
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stoker.errors import Invalid

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "stoker.tasks"
"""The default group of entry points."""


class Modules:
    """What is to be imported: modules, packages with all that is in them, and entry points of installed distributions."""

    def __init__(self, include: Iterable[str]) -> None:
        if isinstance(include, str):
            raise Invalid(f"bad include {include!r}: use a list of modules")
        self._modules = [_checked(name) for name in include]
        self._packages: list[str] = []
        self._groups: list[str] = []
        self._called: set[EntryPoint] = set()

    def discover(self, packages: Iterable[str], group: str | None) -> None:
        """Add packages, and a group of entry points. Raises Invalid for names that are not absolute."""
        self._packages += [_checked(name) for name in packages]
        if group is not None:
            self._groups.append(group)

    def load(self, app: Any) -> None:
        """Import them all; what has been imported stays as it is. Raises Invalid that names the module and the line at fault.

        An entry point that names a function is called with the application, once.
        """
        for name in self._modules:
            import_module(name, f"in include=[...] of {app.name}")
        for name in self._packages:
            _walk(name, f"in discover({name!r}) of {app.name}")
        if self._groups:
            from importlib.metadata import entry_points  # two MB that other workers do without

            for group in self._groups:
                for found in sorted(entry_points(group=group), key=lambda each: each.name):
                    self._enter(found, group, app)

    def _enter(self, found: "EntryPoint", group: str, app: Any) -> None:
        if found in self._called:
            return
        module = import_module(found.module, f"by the entry point {found.name} of {group}")
        if found.attr:
            register: Callable[[Any], object] | None = getattr(module, found.attr, None)
            if not callable(register):
                raise Invalid(f"entry point {found.name} of {group}: {found.module} has no function {found.attr!r}")
            register(app)
        self._called.add(found)


def import_module(name: str, wanted: str) -> ModuleType:
    """The module. Raises Invalid that names the missing part, or the line in which it failed; `wanted` says by whom."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise Invalid(
                f"no module named {error.name!r} in {Path.cwd()} or on PYTHONPATH, wanted {wanted}{_in_src(name)}"
            ) from error
        raise Invalid(f"{name} does not import: {error}{_where(error)}") from error
    except Exception as error:
        words = error.msg if isinstance(error, SyntaxError) else error
        raise Invalid(f"{name} does not import: {type(error).__name__}: {words}{_where(error)}") from error


def _walk(name: str, wanted: str) -> None:
    package = import_module(name, wanted)
    for found in pkgutil.iter_modules(getattr(package, "__path__", ()), name + "."):
        if not found.name.endswith(".__main__"):
            _walk(found.name, wanted)


def _checked(name: str) -> str:
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise Invalid(f"bad module {name!r}: write its whole name, such as shop.tasks")
    return name


def _in_src(name: str) -> str:
    """A remedy where a project keeps its packages in src/."""
    top = Path("src", name.partition(".")[0])
    if top.is_dir() or top.with_suffix(".py").is_file():
        return ": it is in src/, so install the project (pip install -e .) or set PYTHONPATH=src"
    return ""


def _where(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f" ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
