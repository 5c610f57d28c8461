"""Settings of the command line in `[tool.stoker]` of pyproject.toml: the names of the environment variables without STOKER_."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from stoker.errors import Invalid
from stoker.redis.url import shown_address
from stoker.settings import PREFIX

FILE, TABLE = "pyproject.toml", "[tool.stoker]"


def defaults(command: Any, folder: Path) -> dict[str, Any]:
    """The defaults of a command line from the nearest pyproject.toml, as click's `default_map`.

    Flags and environment variables have precedence. Raises Invalid for an unknown name, with the one that was probably meant, for
    values that are no texts, numbers or booleans, and for a Redis URL with a password, which belongs into no repository.
    """
    path = next((found for each in (folder, *folder.parents) if (found := each / FILE).is_file()), None)
    if path is None or not (given := _table(path)):
        return {}
    names = {_name(variable) for _, variable in _settings(command)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        name = key.replace("_", "-").lower()
        where = f"{path}: {TABLE} {key}"
        if name not in names:
            close = get_close_matches(name, names, n=1)
            raise Invalid(f"{where}: no such setting{f'; did you mean {close[0]}?' if close else f': there are {_listed(names)}'}")
        if not isinstance(value, str | int | float):
            raise Invalid(f"{where}: use a text, a number, true or false, not {type(value).__name__}")
        if name == "redis-url" and "@" in shown_address(str(value)):
            raise Invalid(f"{where}: credentials do not belong into a file of the project: set {PREFIX}REDIS_URL")
        values[name] = value
    return _mapped(command, values)


def _table(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if "stoker" not in text:
        return {}
    import tomllib

    try:
        table = tomllib.loads(text).get("tool", {}).get("stoker", {})
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{path} is not TOML: {error}") from error
    if not isinstance(table, dict):
        raise Invalid(f"{path}: {TABLE} is no table")
    return table


def _mapped(command: Any, values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        parameter.name: values[name] for parameter, variable in _own(command) if (name := _name(variable)) in values
    }
    for name, part in getattr(command, "commands", {}).items():
        found[name] = _mapped(part, values)
    return found


def _settings(command: Any) -> Iterator[tuple[Any, str]]:
    yield from _own(command)
    for part in getattr(command, "commands", {}).values():
        yield from _settings(part)


def _own(command: Any) -> Iterator[tuple[Any, str]]:
    """Its parameters that have a variable; hidden ones are set by other processes of Stoker."""
    for parameter in command.params:
        if isinstance(parameter.envvar, str) and not getattr(parameter, "hidden", False):
            yield parameter, parameter.envvar


def _name(variable: str) -> str:
    return variable.removeprefix(PREFIX).replace("_", "-").lower()


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
