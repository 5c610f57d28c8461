"""Options of tasks by pattern of their names: routes and annotations, in one place for a whole application."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from stoker.errors import Invalid
from stoker.rules.plain import plain_text
from stoker.task.options import Policy

_WILD = "*?["


class _Rule(NamedTuple):
    pattern: str
    options: Mapping[str, Any]

    @property
    def rank(self) -> tuple[bool, int]:
        """The higher, the more specific: a whole name, then the longer text that stands outside of wildcards."""
        literal = self.pattern.translate(_WITHOUT_WILD)
        return literal == self.pattern, len(literal)


_WITHOUT_WILD = str.maketrans("", "", "*?")


class Configuration:
    """Options by pattern: `*` is any text, `?` one character, `[ab]` one of these. Case counts.

    Of several patterns that match a name, the most specific decides each option; of two alike, the one added last.
    """

    def __init__(self) -> None:
        self._rules: list[_Rule] = []

    def with_rule(self, pattern: str, options: Mapping[str, Any]) -> "Configuration":
        """These rules and one more. Raises Invalid for an empty pattern, no options, and values out of range."""
        if not (text := plain_text(pattern)):
            raise Invalid(f"bad pattern {pattern!r}: use the name of a task, or a pattern such as reports.*")
        if not options:
            raise Invalid(f"nothing is set for {pattern!r}: give at least one option")
        Policy(**{"queue": "default", **options})
        following = Configuration()
        # Sorting is stable, so that of two alike the later one stays behind the other.
        following._rules = sorted([*self._rules, _Rule(text, dict(options))], key=lambda rule: rule.rank)
        return following

    def of(self, name: str) -> dict[str, Any]:
        """The options of this task that its declaration leaves out."""
        found: dict[str, Any] = {}
        for rule in self._rules:
            if fnmatchcase(name, rule.pattern):
                found |= rule.options
        return found

    def policy(self, name: str, declared: Mapping[str, Any]) -> Policy:
        """The policy of a task that declares these options. Raises Invalid, with its name, where they do not fit together."""
        if not self._rules:
            return Policy(**{"queue": "default", **declared})
        try:
            return Policy(**{"queue": "default", **self.of(name), **declared})
        except Invalid as error:
            raise Invalid(f"task {name}: {error}", error.field) from error
