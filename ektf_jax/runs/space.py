"""The space of a search: which keys of a config vary, and over which values. Needs no Optuna."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ektf_jax.config import Config, current_names
from ektf_jax.document import read_yaml
from ektf_jax.errors import InputError, unknown
from ektf_jax.keys import Decides, spelled
from ektf_jax.training import build
from ektf_jax.training.identity import identity
from ektf_jax.training.record import students_in_full

OURS = Path(__file__).with_name("spaces.yaml")

_PARTS = ("low", "high", "log", "step", "choices")
_PAGE = "docs/tuning.md"
_RECIPE: tuple[Decides, ...] = ("recipe",)
_WITHOUT_DOT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")  # a number, which YAML 1.1 takes for text


@dataclass(frozen=True)
class Axis:
    """A key of a config, in which * stands for every key of a group, and the values that it may have.

    These are `choices`, or from `low` to `high`: in steps, evenly, or evenly on a logarithmic scale. Whole
    numbers where both ends are, and the key takes them.
    """

    keys: tuple[str, ...]
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        return ".".join(self.keys)

    @property
    def probes(self) -> tuple[Any, ...]:
        """Values that stand for all: the ends, or every choice."""
        return self.choices or (self.low, self.high)

    def to_json(self) -> dict[str, Any]:
        """Return what a space file has of it."""
        if self.choices:
            return {"choices": list(self.choices)}
        scale: dict[str, Any] = (
            {"log": True} if self.log else {} if self.step is None else {"step": self.step}
        )
        return {"low": self.low, "high": self.high, **scale}


Space = Mapping[str, Axis]  # by name


def read(path: Path, config: Config) -> Space:
    """The space in a YAML file, for a config; InputError, naming file, key and value, for what is wrong."""
    document = read_yaml(path, "--space", _PAGE)
    if not isinstance(document, dict) or not document:
        raise InputError(f"{path}: names no key of the config with the values that it may have; see {_PAGE}")
    return _checked(
        [_axis(f"{path}: {key}", _names(path, key), given) for key, given in document.items()], config, path
    )


def default(config: Config) -> Space:
    """The space that comes with the package: a common part, and a part for each student by its name."""
    document = read_yaml(OURS, "--space", _PAGE)
    parts = [(tuple(key.split(".")), given) for key, given in document["common"].items()]
    for label, student in config.ensemble.students.items():
        own = document["students"].get(student.get("name"), {})
        parts += [(("ensemble", "students", label, key), given) for key, given in own.items()]
    return _checked([_axis(f"{OURS}: {'.'.join(keys)}", keys, given) for keys, given in parts], config, OURS)


def varied(config: Config, space: Space, values: Mapping[str, Any]) -> Config:
    """The config with values, by the names of their axes. InputError for those that it cannot have."""
    nested = config.to_dict()
    for name, value in values.items():
        for keys in _spelled(nested, space[name]):
            group = nested
            for at, key in enumerate(keys[:-1]):
                group = group.setdefault(key, {})
                if not isinstance(group, dict):
                    raise InputError(f"config.{'.'.join(keys[: at + 1])} is no group of keys")
            group[keys[-1]] = tuple(value) if isinstance(value, list) else value
    return Config.from_dict(nested)


def own(config: Config, space: Space) -> dict[str, Any] | None:
    """The config's own settings by the names of the axes; None where an axis does not have its value.

    That is also so of an axis whose keys have several values.
    """
    now = _in_full(config)
    found: dict[str, Any] = {}
    for name, axis in space.items():
        values = [_value(now, keys) for keys in _spelled(now, axis)]
        if any(value != values[0] for value in values) or not _has(axis, values[0]):
            return None
        value = values[0]
        if not axis.choices and isinstance(axis.low, float):
            found[name] = float(value)
        else:
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def _has(axis: Axis, value: Any) -> bool:
    if axis.choices:
        return label(value) in map(label, axis.choices)
    if isinstance(value, bool) or not isinstance(value, int | float) or not axis.low <= value <= axis.high:
        return False
    steps = 0.0 if axis.step is None else (value - axis.low) / axis.step
    return abs(steps - round(steps)) < 1e-6


def _in_full(config: Config) -> dict[str, Any]:
    nested = config.to_dict()
    return nested | {"ensemble": nested["ensemble"] | {"students": students_in_full(config)}}


def _value(nested: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    """What a config has for a key, None for a key that it does not have."""
    value: Any = nested
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _spelled(nested: Mapping[str, Any], axis: Axis) -> Iterator[tuple[str, ...]]:
    return map(current_names, spelled(nested, axis.keys, axis.name))


def _names(path: Path, key: Any) -> tuple[str, ...]:
    if not isinstance(key, str) or not all(key.split(".")):
        raise InputError(f"{path}: the key {key!r} must be one of the config, such as train.learning_rate")
    return tuple(key.split("."))


def _axis(where: str, keys: tuple[str, ...], given: Any) -> Axis:
    """An axis as its file has it. Raises InputError, which begins with `where`."""
    if not isinstance(given, dict):
        raise InputError(
            f"{where} = {given!r} must be {{low, high}}, with log: true or a step if need be, or {{choices}}"
        )
    for part in given:
        if part not in _PARTS:
            raise unknown(f"{where}: key", part, _PARTS)
    if "choices" in given:
        if others := [part for part in given if part != "choices"]:
            raise InputError(f"{where}: has choices and {others[0]}; choices stand alone")
        return Axis(keys, choices=_choices(where, given["choices"]))
    for part in ("low", "high"):
        if part not in given:
            raise InputError(f"{where}: lacks {part}; give low and high, or choices")
    low, high = (_number(where, part, given[part]) for part in ("low", "high"))
    log = given.get("log", False)
    step = None if given.get("step") is None else _number(where, "step", given["step"])
    if not isinstance(log, bool):
        raise InputError(f"{where}: log = {log!r} must be true or false")
    if not low < high:
        raise InputError(f"{where}: low = {low!r} must be below high = {high!r}")
    if log and step is not None:
        raise InputError(f"{where}: has log and a step = {step!r}; drop one of them")
    if log and low <= 0:
        raise InputError(f"{where}: low = {low!r} must be above 0 on a logarithmic scale")
    if step is not None:
        steps = (high - low) / step if step > 0 else 0.0
        if round(steps) < 1 or abs(steps - round(steps)) > 1e-9 * steps:
            raise InputError(f"{where}: step = {step!r} must lead from low = {low!r} to high = {high!r}")
    return Axis(keys, low, high, log, step)


def _number(where: str, part: str, value: Any) -> float:
    value = _read(value)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise InputError(f"{where}: {part} = {value!r} must be a finite number")
    return value


def _read(value: Any) -> Any:
    return float(value) if isinstance(value, str) and _WITHOUT_DOT.fullmatch(value) else value


def _choices(where: str, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, list) or len(given) < 2:
        raise InputError(f"{where}: choices = {given!r} must be a list of two values or more")
    read = [[_read(one) for one in value] if isinstance(value, list) else _read(value) for value in given]
    for value in read:
        for one in value if isinstance(value, list) else [value]:
            if type(one) not in (bool, int, float, str) or (
                isinstance(one, float) and not math.isfinite(one)
            ):
                raise InputError(
                    f"{where}: choices has {value!r}; a choice is text, a finite number, true, false or a"
                    " list of these"
                )
    labels = [label(value) for value in read]
    if twice := [value for value, one in zip(read, labels, strict=True) if labels.count(one) > 1]:
        raise InputError(f"{where}: choices has {twice[0]!r} twice; write each once")
    return tuple(read)


def label(value: Any) -> Any:
    """A choice as Optuna keeps it: a list as text."""
    return json.dumps(value, allow_nan=False) if isinstance(value, list | tuple) else value


def _checked(axes: list[Axis], config: Config, path: Path) -> Space:
    """The axes by name, with the numbers that their keys take; each is tried on the config."""
    nested = config.to_dict()
    seen: dict[tuple[str, ...], str] = {}
    for axis in axes:
        try:
            every = list(_spelled(nested, axis))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        for keys in every:
            if keys in seen:
                raise InputError(f"{path}: {seen[keys]} and {axis.name} both set {'.'.join(keys)}; drop one")
            seen[keys] = axis.name
    now = _in_full(config)
    space = {axis.name: _as_numbers(axis, now) for axis in axes}
    tried: set[str] = set()
    for name, axis in space.items():
        recipes = []
        for value in axis.probes:
            try:
                probe = varied(config, space, {name: value})
                build.check(probe, tried)
            except InputError as error:
                raise InputError(f"{path}: {name} = {value!r}: {error}") from None
            recipes.append(identity(probe, decides=_RECIPE))
        if any(recipe == recipes[0] for recipe in recipes[1:]):
            raise InputError(
                f"{path}: {name}: {axis.probes[0]!r} and another of its values are the same recipe for this"
                " config; drop it"
            )
    return space


def _as_numbers(axis: Axis, now: Mapping[str, Any]) -> Axis:
    """The axis from float to float where the key that it sets has one."""
    if axis.choices:
        return axis
    for keys in _spelled(now, axis):
        if isinstance(_value(now, keys), float):
            step = None if axis.step is None else float(axis.step)
            return Axis(axis.keys, float(axis.low), float(axis.high), axis.log, step)
    return axis
