"""Runs of a sweep that are written on the command line: --grid=KEY=VALUE,VALUE ... and --seeds=N."""

import copy
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ektf_jax.cli import config, shell
from ektf_jax.config import Config
from ektf_jax.errors import InputError
from ektf_jax.keys import short, spelled

Keys = tuple[str, ...]


class Axis(NamedTuple):
    """A key of a run's config, in which * stands for every key of a group, and the texts of its values."""

    keys: Keys
    values: tuple[str, ...]


def runs(given: Mapping[str, Any], axes: Sequence[str], seeds: int | None) -> dict[str, Any]:
    """The runs of a config, each with every combination of the values that the axes give it, by name.

    `given` is the config of a sweep or of one run. An axis is "KEY=VALUE,VALUE,...". With `seeds` each of
    these is there so many times, with its config's seed and those that follow. A name has what varies: it is
    KEY-VALUE_KEY-VALUE_sSEED, after that of the run. Raises InputError for an axis that cannot be.
    """
    if seeds is not None and seeds < 1:
        raise InputError(f"--seeds={seeds} must be at least 1")
    read = [_axis(text) for text in axes]
    names = _short([axis.keys for axis in read])
    made: dict[str, Any] = {}
    of_sweep: Mapping[str, dict[str, Any]] = given.get("runs", {"": given})
    for name, run in of_sweep.items():
        same: dict[str, str] = {}
        for values in itertools.product(*(axis.values for axis in read)):
            parts = [name] if name else []
            varied = copy.deepcopy(run)
            for axis, key, value in zip(read, names, values, strict=True):
                for keys in spelled(varied, axis.keys, f"--grid={'.'.join(axis.keys)}"):
                    config.change(varied, keys, value)
                parts.append(f"{key}-{_plain(value)}")
            called = "_".join(parts)
            if (first := same.setdefault(repr(varied), called)) != called:
                raise InputError(f"--grid: {first!r} and {called!r} are one run; write each value once")
            for seed in range(seeds or 1):
                one = copy.deepcopy(varied)
                if seeds is not None:
                    one["seed"] = one.get("seed", Config().seed) + seed
                label = "_".join([*parts, *([f"s{one['seed']}"] if seeds is not None else [])])
                if label in made:
                    raise InputError(f"--grid: two runs are called {label!r}; values must differ in letters")
                made[label] = one
    return made


def _axis(text: str) -> Axis:
    keys, value = shell.keys_and_value(text)
    if not value:
        raise InputError(f"--grid={text}: names no values; write KEY=VALUE,VALUE")
    values = tuple(_split(value))
    if len(set(values)) < len(values):
        raise InputError(f"--grid={text}: a value is there twice; write each once")
    return Axis(keys, values)


def _split(text: str) -> Iterator[str]:
    """The parts between the commas outside brackets: (400,400),(200,) has two."""
    depth, part = 0, ""
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            yield part.strip()
            part = ""
        else:
            part += letter
    yield part.strip()


def _short(axes: Sequence[Keys]) -> list[str]:
    """For each axis the last of its keys that tell it from the others."""
    if len(set(axes)) < len(axes):
        twice = next(keys for keys in axes if axes.count(keys) > 1)
        raise InputError(f"--grid={'.'.join(twice)} is given twice; put all of its values into one")
    return [".".join(key for key in keys if key != "*") for keys in short(axes)]


def _plain(value: str) -> str:
    """A value as a part of a file's name."""
    return re.sub(r"[^\w.+-]+", "-", value).strip("-")
