"""Load the application that a worker runs, from `module:attribute`."""

import importlib
import sys
import traceback
from pathlib import Path

from stoker.app.app import Stoker, application_of
from stoker.errors import Invalid


def load_app(path: str) -> Stoker:
    """The `Stoker` at ``module:attribute``. The working directory is importable, as with `python -m`.

    Raises Invalid that names the wrong part of the path, or the line in which the module failed.
    """
    module_name, colon, attribute = path.partition(":")
    if not module_name or not colon or not attribute:
        raise Invalid(f"bad app {path!r}: write it as module:attribute, such as shop.tasks:app")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise Invalid(f"no module named {error.name!r} in {here} or on PYTHONPATH, wanted for app {path!r}") from error
        raise Invalid(f"{module_name} does not import: {error}{_where(error)}") from error
    except Exception as error:
        words = error.msg if isinstance(error, SyntaxError) else error
        raise Invalid(f"{module_name} does not import: {type(error).__name__}: {words}{_where(error)}") from error
    app = getattr(module, attribute, None)
    if not isinstance(app, Stoker):
        found = [name for name, value in vars(module).items() if isinstance(value, Stoker)]
        hint = f"; it has: {', '.join(found)}" if found else ""
        raise Invalid(f"{module_name} has no Stoker named {attribute!r}{hint}")
    for declaration in application_of(app).declarations.values():
        declaration.check()
    return app


def _where(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f" ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
