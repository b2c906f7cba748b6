"""Groups of keys, frozen dataclasses: how they are declared, read from nested data, and written back.

A config is one (`ektf_jax.config`), and the options of a transfer method are.
"""

import dataclasses
import importlib
import json
import math
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from ektf_jax.errors import InputError, cause, unknown

Group = TypeVar("Group")

# What a key decides: the numbers that a run leads to, as a report compares them; which of the runs of one
# recipe it is; or nothing about it, as where it runs and how often it tells.
Decides = Literal["recipe", "run", "nothing"]

_LARGEST = float(np.finfo(np.float32).max)  # what a step computes in
_SMALLEST = float(np.finfo(np.float32).tiny)
_BITS = 1024  # of a number in a config: an error can show it
_DEEPEST = 20  # groups in groups
_ABSENT = object()


class Rule(NamedTuple):
    """What a value must be beside its type: a test, and the words for it."""

    holds: Callable[[Any], bool]
    wanted: str


def at_least(least: float, more: str = "", below: float = math.inf) -> Rule:
    return Rule(lambda value: least <= value < below, f"at least {least}{more}")


def within(least: float, most: float) -> Rule:
    return Rule(lambda value: least <= value <= most, f"in [{least}, {most}]")


ABOVE_0 = Rule(lambda value: _SMALLEST <= value <= _LARGEST, "above 0, and a float32")
NOT_NEGATIVE = Rule(lambda value: 0 <= value <= _LARGEST, "at least 0, and a float32")


def key(
    default: Any,
    meaning: str,
    rule: Rule | Collection[str] | None = None,
    *,
    decides: Decides = "recipe",
    rest: bool = False,
    formerly: str = "",
) -> Any:
    """A key of a config, as a field of a frozen dataclass.

    Args:
      default: what a config that does not name it has, and what runs did before there was the key.
      meaning: in words, with units.
      rule: beyond its type, a `Rule` or the valid values; None where every value of the type is right.
      decides: see `Decides`.
      rest: it holds all that stands beside it and is nobody's here.
      formerly: the name that it had in older versions, which is still read.
    """
    metadata = {"meaning": meaning, "rule": rule, "decides": decides, "rest": rest, "formerly": formerly}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def read(group: type[Group], values: Any, path: str) -> Group:
    """Read a group of keys: a dataclass whose fields are `key`s, or such dataclasses in turn.

    Raises InputError as `Config.from_dict` does. `path` is what errors call the group.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{path} = {values!r} must be a group of keys")
    hints = typing.get_type_hints(group)
    keys = {field.name: field for field in dataclasses.fields(group)}  # type: ignore[arg-type]
    rest = next((name for name, field in keys.items() if field.metadata.get("rest")), None)
    given: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for written, value in values.items():
        name = current(group, written)
        where = f"{path}.{written}"
        if name in given:
            former = keys[name].metadata.get("formerly")
            raise InputError(
                f"{path}.{former} is the former name of {path}.{name}, and both are there; drop one"
            )
        if name in keys and name != rest:
            nested = dataclasses.is_dataclass(hints[name])
            given[name] = (
                read(hints[name], value, where) if nested else _value(keys[name], hints[name], value, where)
            )
        elif rest is not None:
            others[name] = value
        else:
            raise unknown("config key", where, (f"{path}.{valid}" for valid in keys))
    return group(**given, **({rest: others} if rest else {}))


def current(group: Any, name: str) -> str:
    """Return what a key of a group is called now, of a name that it may have had in an older version."""
    former = {field.metadata.get("formerly"): field.name for field in dataclasses.fields(group)}
    return former.get(name, name) if name else name


def prefer_former(group: Any, values: Any) -> None:
    """Drop from nested data, in place, each key that has its default beside its former name.

    A config file of an older version sets that on a base which has the key by its name of today.
    """
    if not isinstance(values, dict):
        return
    hints = typing.get_type_hints(group)
    for field in dataclasses.fields(group):
        if dataclasses.is_dataclass(hints[field.name]):
            prefer_former(hints[field.name], values.get(field.name))
        elif field.metadata.get("formerly") in values and values.get(field.name) == field.default:
            del values[field.name]


def _value(field: dataclasses.Field, hint: Any, value: Any, path: str) -> Any:
    """The value as its key has it; InputError, naming the key, where it cannot have it."""
    kinds = types_of(hint)
    if Mapping in kinds:
        if not isinstance(value, Mapping):
            raise InputError(f"{path} = {value!r} must be a group of keys")
        return value
    if isinstance(value, Mapping):
        raise InputError(f"{path} = {value!r} must be a value")
    if tuple in kinds and isinstance(value, list):
        value = tuple(value)
    if type(value) is int and float in kinds:
        value = float(value) if abs(value) <= 2**1000 else math.inf
    rule = field.metadata.get("rule")
    if type(value) not in kinds:
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise InputError(f"{path} = {value!r} must be of type {wanted}, like {field.default!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{path} = {value!r} must be finite")
    if isinstance(rule, Rule):
        if not rule.holds(value):
            raise InputError(f"{path} = {value!r} must be {rule.wanted}")
    elif rule is not None and value not in rule:
        raise unknown(path, value, rule)
    return value


def types_of(hint: Any) -> tuple[type, ...]:
    """Return the types that a key's type hint names."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (typing.get_origin(hint) or hint,)


def to_dict(group: Any) -> Any:
    """Return a group of keys, a dataclass, as plain nested data."""
    if dataclasses.is_dataclass(group):
        made: dict[str, Any] = {}
        for field in dataclasses.fields(group):
            inner = to_dict(getattr(group, field.name))
            made |= inner if field.metadata.get("rest") else {field.name: inner}
        return made
    return {name: to_dict(value) for name, value in group.items()} if isinstance(group, Mapping) else group


def deciding(group: Any, decides: Collection[Decides], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys that decide one of these, ("train.patience", 2) and so on, as JSON has their values.

    What others describe is left out. Raises InputError, naming the key, for a value without a text in
    JSON.
    """
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if dataclasses.is_dataclass(value):
            yield from deciding(value, decides, f"{path}{field.name}.")
        elif field.metadata["decides"] in decides and not field.metadata["rest"]:
            yield from leaves(value, f"{path}{field.name}")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of all values of nested data, as JSON has them; whole numbers are one, 1 or 1.0.

    Raises InputError as `deciding` does.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else str(name))
        return
    try:
        text = json.dumps(value, allow_nan=False)
    except (ValueError, TypeError):
        raise InputError(
            f"config.{path} = {value!r} has no text in JSON; use finite numbers, text, True, False, lists"
        ) from None
    yield path, _whole(json.loads(text))


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plain(value: Any, path: str = "config", depth: int = 0) -> Any:
    """Return a config as data that JSON can hold: scalars as Python's, groups as dictionaries.

    Raises InputError, naming the key, for what is no such data.
    """
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if hasattr(value, "to_dict") and not isinstance(value, type):  # a ConfigDict, which is no mapping
        value = value.to_dict()
    if depth > _DEEPEST:
        raise InputError(f"{path}: groups of keys or tuples are nested too deep")
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise InputError(f"{path} has the key {name!r}, which must be text")
        return {str(name): plain(part, f"{path}.{name}", depth + 1) for name, part in value.items()}
    if isinstance(value, tuple | list):
        parts = [plain(part, f"{path}[{index}]", depth + 1) for index, part in enumerate(value)]
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise InputError(f"{path} is a number of {value.bit_length()} bits; it can have {_BITS}")
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise InputError(
        f"{path} is of type {type(value).__module__}.{type(value).__qualname__}; a config holds numbers,"
        " text, True and False, tuples of them, and groups of keys"
    )


def named(path: str, name: Any, registry: Mapping[str, Any]) -> Any:
    """What a key names: an entry of a registry, or "package.module:attribute", which is imported.

    Raises InputError for what is neither.
    """
    if not isinstance(name, str):
        raise InputError(f"{path} = {name!r} must be text; valid names: {', '.join(registry)}")
    if ":" not in name:
        if name not in registry:
            raise unknown(path, name, registry)
        return registry[name]
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # what is imported is run
        raise InputError(f"{path} = {name!r}: {cause(error)}; it must be importable from here") from error


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what tells two sets of values apart, "key: old there, new now" for each key; [] for the same."""

    def shown(values: Mapping[str, Any], key: str) -> str:
        return repr(values[key]) if key in values else "absent"

    return [
        f"{key}: {shown(there, key)} there, {shown(now, key)} now"
        for key in sorted(there.keys() | now.keys())
        if there.get(key, _ABSENT) != now.get(key, _ABSENT)
    ]


def spelled(group: Any, names: tuple[str, ...], path: str) -> Iterator[tuple[str, ...]]:
    """Yield the keys that a path of names means, in which * stands for every key of a group.

    Raises InputError, which begins with `path`, where there is no group for it.
    """
    if "*" not in names:
        yield names
        return
    at = names.index("*")
    inner: Any = group
    for name in names[:at]:
        inner = inner.get(name) if isinstance(inner, Mapping) else None
    if not isinstance(inner, Mapping) or not inner:
        raise InputError(f"{path}: {'.'.join(names[:at])} is no group of keys that * could name")
    for name in inner:
        yield from spelled(group, (*names[:at], name, *names[at + 1 :]), path)


def short(keys: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Of each key, given as its parts, the last that tell it from the others."""
    return [
        next(own[-n:] for n in range(1, len(own) + 1) if sum(key[-n:] == own[-n:] for key in keys) == 1)
        for own in keys
    ]
