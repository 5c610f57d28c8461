"""Load the application that a worker runs, from `module:attribute`."""

import sys
from pathlib import Path
from typing import Any

from stoker.app.app import Stoker, application_of
from stoker.app.modules import import_module
from stoker.app.on_dead import hooks_of
from stoker.errors import Invalid


def load_app(path: str) -> Stoker:
    """The `Stoker` at ``module:attribute``, or what a function there returns, with all modules that it includes.

    The working directory is importable, as with `python -m`. Raises Invalid that names the wrong part of the path, or the line in
    which a module failed.
    """
    module_name, colon, attribute = path.partition(":")
    attribute = attribute.removesuffix("()")
    if not module_name or not colon or not attribute:
        raise Invalid(f"bad app {path!r}: write it as module:attribute, such as shop.tasks:app")
    if not all(part.isidentifier() for part in module_name.split(".")) or module_name.endswith(".py"):
        dotted = module_name.removesuffix(".py").removeprefix("./").strip("/").replace("/", ".")
        raise Invalid(f"bad app {path!r}: name the module as an import does, {dotted}:{attribute}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = import_module(module_name, f"for app {path!r}")
    found = getattr(module, attribute, None)
    app = found if isinstance(found, Stoker) else _made(found, path)
    if app is None:
        others = [name for name, value in vars(module).items() if isinstance(value, Stoker)]
        hint = f"; it has: {', '.join(others)}" if others else ""
        raise Invalid(f"{module_name} has no Stoker named {attribute!r}{hint}")
    app.load()
    for declaration in application_of(app).declarations.values():
        declaration.check()
    hooks_of(application_of(app))
    return app


def _made(factory: Any, path: str) -> Stoker | None:
    """What the factory returns; None for what is none. Raises Invalid where it fails or returns something else."""
    if not callable(factory) or isinstance(factory, type):
        return None
    try:
        made = factory()
    except Exception as error:
        raise Invalid(f"app {path!r}: the factory failed, called without arguments: {type(error).__name__}: {error}") from error
    if not isinstance(made, Stoker):
        raise Invalid(f"app {path!r}: the factory returns {type(made).__name__}, and must return a Stoker")
    return made
