"""The signature of a task: which parameters callers give, and how arguments and results become JSON and back."""

import inspect
import re
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, get_type_hints

import msgspec

from stoker.errors import Invalid, InvalidArguments
from stoker.rules.message import payload_bytes
from stoker.task.dependencies import injected, placeholders
from stoker.task.scalars import sure_types, surely_fit
from stoker.task.schema import arguments_schema
from stoker.task.values import (
    Read,
    Unfit,
    check_readable,
    encode,
    has_binary,
    is_binary,
    is_endless,
    is_pydantics,
    read_foreign,
    reader,
    write,
)

_ABSENT: Any = msgspec.UNSET
_PARAMETER = re.compile(r"`\$\.(\w+)")


class Signature:
    """The signature of one function. Its type hints are resolved when first needed: they may name what is defined later."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._function = function
        self._whole = inspect.signature(function)
        for parameter in self._whole.parameters.values():
            if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
                raise Invalid(f"task {name}: parameter {parameter} has no name on the wire; give it one, or take a list or dict")

    def __str__(self) -> str:
        return f"{self._name}{self.called}"

    @cached_property
    def called(self) -> inspect.Signature:
        """The signature for callers: without injected parameters."""
        return self._whole.replace(parameters=[each for name, each in self._whole.parameters.items() if name not in self._injected])

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name. Raises Invalid when they do not fit."""
        positional, required, known = self._names
        if len(args) <= len(positional):
            arguments = dict(zip(positional, args))  # noqa: B905 (as many as there are)
            if not kwargs and len(arguments) == len(known):
                return arguments
            if arguments.keys().isdisjoint(kwargs):
                arguments |= kwargs
                if required <= arguments.keys() <= known:
                    return arguments
        try:
            return self.called.bind(*args, **kwargs).arguments  # for Python's own message
        except TypeError as error:
            raise Invalid(f"arguments do not fit {self}: {error}") from error

    def receiver(self, given: Iterable[str]) -> str:
        """The first parameter that is not given. Raises Invalid where there is none."""
        if (name := next((name for name in self.called.parameters if name not in given), None)) is None:
            raise Invalid(f"{self} has no parameter left that could take a result: prepare() it instead")
        return name

    def bind_without(self, missing: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, without `missing`, which is still to come. Raises Invalid when they do not fit."""
        others = self.called.replace(parameters=[each for name, each in self.called.parameters.items() if name != missing])
        try:
            return others.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise Invalid(f"arguments do not fit {self}, whose {missing} is still to come: {error}") from error

    def with_defaults(self, bound: dict[str, Any]) -> dict[str, Any]:
        """All arguments of the call, with defaults filled in."""
        return {name: each.default for name, each in self.called.parameters.items() if each.default is not each.empty} | bound

    def encode(self, bound: dict[str, Any]) -> msgspec.Raw:
        """The arguments as JSON. Raises Invalid for more than 256 KiB, and naming an argument that JSON cannot carry."""
        try:
            raw = payload_bytes(bound, encode)
        except Invalid as error:
            raise self._unwritable(bound) or error from None
        if b"null" in raw:
            for name, value in bound.items():
                if is_endless(value):
                    raise Invalid(f"argument {name} of {self._name} cannot be written as JSON: it has no numbers but finite ones")
        return msgspec.Raw(raw)

    def check_arguments(self, bound: dict[str, Any], payload: bytes, into: str | None = None) -> None:
        """Raises InvalidArguments where a worker would refuse this payload of these arguments: it reads them by the same rules.

        `into` is the parameter that is filled later. Raises Invalid for type hints that no worker starts with.
        """
        if surely_fit(bound, self._sure):
            return
        for name, value in bound.items():
            if is_binary(value) and not has_binary(hint := self._hints.get(name, Any)) and not is_pydantics(hint):
                raise InvalidArguments(
                    f"argument {name} of {self._name} is {type(value).__name__}, and JSON carries no binary data: annotate the "
                    "parameter as bytes, which travel in base64, or store the data elsewhere and pass a reference",
                    name,
                )
        try:
            decoder = self._arguments if into is None else self._decoder(into)
        except (NameError, TypeError) as error:
            raise Invalid(f"task {self._name}: its type hints cannot be used for JSON: {error}") from error
        self._read(payload, decoder)

    def decode(self, payload: bytes) -> dict[str, Any]:
        """The payload as arguments of the declared types. Raises InvalidArguments that names the parameter."""
        return self._read(payload, self._arguments)

    def _read(self, payload: bytes, decoder: msgspec.json.Decoder[Any]) -> dict[str, Any]:
        try:
            arguments = decoder.decode(payload)
            found = {name: value for name in arguments.__struct_fields__ if (value := getattr(arguments, name)) is not _ABSENT}
            if self._readers:
                found |= {name: read(bytes(found[name])) for name, read in self._readers.items() if name in found}
        except (msgspec.MsgspecError, Unfit) as error:
            raise self._misfit(str(error)) from error
        except Exception as error:  # from validators of the application
            raise self._misfit(f"{type(error).__name__}: {error}") from error
        return found

    def _misfit(self, words: str) -> InvalidArguments:
        parameter = _PARAMETER.search(words)
        return InvalidArguments(f"arguments do not fit {self}: {words}", parameter[1] if parameter else "")

    def decode_result(self, value: bytes) -> Any:
        """A result from JSON to the declared return type. Raises Invalid where it is of another one."""
        try:
            return self._result(value)
        except Unfit as error:
            raise Invalid(f"the result of {self._name} is not what it declares: {error}") from error
        except Exception as error:
            raise Invalid(f"the result of {self._name} cannot be read: {type(error).__name__}: {error}") from error

    def schema(self) -> bytes | None:
        """JSON Schema of the arguments, as JSON. None where the type hints allow none."""
        try:
            parameters = self.called.parameters
            required = [name for name, each in parameters.items() if each.default is each.empty]
            return msgspec.json.encode(arguments_schema({name: self._hints.get(name, Any) for name in parameters}, required))
        except Exception:  # also of the application's types
            return None

    def check(self) -> None:
        """Raises Invalid where the type hints cannot be resolved or are not of a kind that JSON can carry."""
        try:
            _ = self._arguments, self._result
            for name in (*self.called.parameters, "return"):
                if not is_pydantics(hint := self._hints.get(name, Any)):
                    self._check_readable(name, hint)
        except (NameError, TypeError) as error:
            raise Invalid(f"task {self._name}: its type hints cannot be used for JSON: {error}") from error

    def _check_readable(self, name: str, hint: Any) -> None:
        try:
            check_readable(hint, abstract=name == "return")
        except TypeError as error:
            what = "its result" if name == "return" else f"parameter {name}"
            raise Invalid(f"task {self._name}: {what} cannot be used for JSON: {error}") from error

    def check_plain_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises TypeError where a plain call leaves out a parameter whose default is only a mark of injection."""
        if self._placeholders and (left_out := self._placeholders - self._whole.bind(*args, **kwargs).arguments.keys()):
            raise TypeError(f"{self._name}: a plain call injects nothing, give {', '.join(sorted(left_out))} yourself")

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self._function, include_extras=True)

    @cached_property
    def _injected(self) -> frozenset[str]:
        try:
            return injected(self._function, self._hints)
        except Invalid as error:
            raise Invalid(f"task {self._name}: {error}") from error

    @cached_property
    def _placeholders(self) -> frozenset[str]:
        return placeholders(self._whole)

    def _unwritable(self, bound: dict[str, Any]) -> Invalid | None:
        for name, value in bound.items():
            try:
                write(value)
            except Invalid as error:
                return Invalid(f"argument {name} of {self._name} cannot be written as JSON: {error}")
        return None

    @cached_property
    def _arguments(self) -> msgspec.json.Decoder[Any]:
        return self._decoder()

    def _decoder(self, optional: str = "") -> msgspec.json.Decoder[Any]:
        """Reads the arguments, also those without the one that is `optional`."""
        hints = {name: self._hints.get(name, Any) for name in self.called.parameters} | dict.fromkeys(self._readers, msgspec.Raw)
        fields = [
            (name, hints[name]) if each.default is each.empty and name != optional else (name, hints[name], _ABSENT)
            for name, each in self.called.parameters.items()
        ]
        arguments = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
        return msgspec.json.Decoder(arguments, dec_hook=read_foreign)

    @cached_property
    def _sure(self) -> dict[str, frozenset[type]]:
        return {name: sure_types(self._hints.get(name, Any)) for name in self.called.parameters}

    @cached_property
    def _readers(self) -> dict[str, Read]:
        """Readers of the parameters that msgspec cannot read."""
        hints = {name: self._hints.get(name, Any) for name in self.called.parameters}
        return {name: reader(hint, f"$.{name}") for name, hint in hints.items() if is_pydantics(hint)}

    @cached_property
    def _result(self) -> Read:
        return reader(self._hints.get("return", Any))

    @cached_property
    def _names(self) -> tuple[tuple[str, ...], frozenset[str], frozenset[str]]:
        """Positional, required, and all parameters: checked by hand, since `inspect.Signature.bind` costs more than all else."""
        each = self.called.parameters
        positional = tuple(name for name, parameter in each.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD)
        required = frozenset(name for name, parameter in each.items() if parameter.default is parameter.empty)
        return positional, required, frozenset(each)
