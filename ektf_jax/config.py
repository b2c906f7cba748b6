"""The typed config of a run: every key once, with its default, its range, its meaning and what it decides.

Config files (configs/*.py) return plain nested data, built on configs/base.py, which is made from here;
`Config.from_dict` turns them, and the configs that runs recorded, into frozen dataclasses, and names what is
wrong with them. A key that is not there has its default: what runs did before there was the key, so that a
config of an older version means what it meant. Where new runs shall do something else, configs/base.py says
so.

What lies under `ensemble.students`, `data.synthetic` and `transfer.METHOD` is described, and checked, by the
student, the generator or the method that takes it.
"""

import dataclasses
import importlib
import json
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from ektf_jax.errors import InputError, cause, unknown

Group = TypeVar("Group")

# What a key decides: the numbers that a run leads to, as a report compares them; which of the runs of one
# recipe it is; or nothing about it, as where it runs and how often it tells.
Decides = Literal["recipe", "run", "nothing"]

OURS = "ektf_jax"
FUSIONS = ("mean", "sum", "concat")
STACKS = ("auto", "vmap", "scan")
MEMBERS = ("separate", "adapters")
PRODUCTS = ("float32", "bfloat16")

_LARGEST = float(np.finfo(np.float32).max)  # what a step computes in
_SMALLEST = float(np.finfo(np.float32).tiny)
_MOST = 2**31  # of steps, rows and epochs
_WIDEST = 2**16  # a dimension, or a number of students
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
) -> Any:
    """A key of a config, as a field of a frozen dataclass.

    Args:
      default: what a config that does not name it has, and what runs did before there was the key.
      meaning: in words, with units.
      rule: beyond its type, a `Rule` or the valid values; None where every value of the type is right.
      decides: see `Decides`.
      rest: it holds all that stands beside it and is nobody's here.
    """
    metadata = {"meaning": meaning, "rule": rule, "decides": decides, "rest": rest}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_NOTHING: Mapping[str, Any] = types.MappingProxyType({})


@dataclass(frozen=True)
class DataConfig:
    path: str = key(
        "",
        "An encoded dataset, which experiments.prepare wrote; empty where the run generates its own.",
        decides="nothing",  # dataset.json says which data a run is of, wherever they lie
    )
    synthetic: Mapping[str, Any] = key(
        _NOTHING,
        "Arguments of ektf_jax.data.synthetic.SyntheticSpec, of a run that generates its own dataset.",
    )
    batch_size: int = key(
        4096, "Rows of a step.", at_least(2, " (BatchNorm needs two rows) and below 2^31", _MOST)
    )


@dataclass(frozen=True)
class EmbeddingConfig:
    dim: int = key(16, "D; 0: no shared embedding, as logistic regression wants it.", within(0, _WIDEST))
    l2: float = key(
        0.01,
        "Weight of (l2 / 2) * sum(table^2) over all that a student reads of the table, mean over students:"
        " the whole table where they share it.",
        NOT_NEGATIVE,
    )
    sharing: str | float = key(
        "shared",
        "shared: one embedding for all students; own: one each; a number: the share of the `dim` columns that"
        " each student has to itself.",
        Rule(
            lambda value: value in ("shared", "own") if isinstance(value, str) else 0 <= value <= 1,
            "'shared', 'own' or a number in [0, 1], the share of the columns that each student has to itself",
        ),
    )

    @property
    def own_columns(self) -> int:
        """How many of the D columns each student has to itself."""
        share = {"shared": 0, "own": 1}[self.sharing] if isinstance(self.sharing, str) else self.sharing
        return round(share * self.dim)


@dataclass(frozen=True)
class EnsembleConfig:
    num_students: int = key(
        2,
        "K, dealt out in turn over the kinds of students below, sorted by label.",
        Rule(lambda value: 1 <= value <= _WIDEST, f"at least 1 and at most {_WIDEST}"),
    )
    students: Mapping[str, Any] = key(
        types.MappingProxyType(
            {"mlp": {"name": "mlp", "hidden_units": (400, 400, 400), "dropout": 0.1, "batch_norm": True}}
        ),
        "By any label: `name`, in ektf_jax.students.REGISTRY or `package.module:Class` of your own, and its"
        " arguments.",
    )
    fusion: str = key(
        "mean", "How students become the ensemble (Eq. 1); concat without transfer only.", FUSIONS
    )
    members: str = key(
        "separate",
        "adapters: the copies of a student share their kernels, and each scales them in its own way (TabM).",
        MEMBERS,
    )
    stack: str = key(
        "auto",
        "How the copies of a student run; auto: scan on a CPU, vmap elsewhere.",
        STACKS,
        decides="nothing",
    )
    products: str = key(
        "float32", "Of dense layers; bfloat16 rounds the factors alone, and sums in float32.", PRODUCTS
    )

    @property
    def labels(self) -> list[str]:
        """For each of the K students its label in `students`, in the order of the predictions."""
        kinds = list(self.students)
        return [kind for turn, kind in enumerate(kinds) for _ in range(turn, self.num_students, len(kinds))]


@dataclass(frozen=True)
class TransferConfig:
    name: str = key(
        "ektf",
        "A method in ektf_jax.transfer.METHODS, or `package.module:Class` of your own. Its options stand"
        " beside this key, in a group under its name (of one's own, that of the class).",
    )
    teachers: tuple[str, ...] = key(
        (),
        "Working directories of finished runs that a method learns from, relative to this run's; in a sweep"
        " their names.",
        Rule(lambda names: all(isinstance(name, str) and name for name in names), "names of directories"),
    )
    self: int = key(
        1,
        "Passes of each student in a step, with different dropout, that are taught by their mean (QNN-alpha"
        " has 2); 1: no self-transfer.",
        within(1, _WIDEST),
    )
    options: Mapping[str, Any] = key(_NOTHING, "Per method its group of options.", rest=True)


@dataclass(frozen=True)
class TrainConfig:
    max_epochs: int = key(100, "Epochs at most.", at_least(1, " and below 2^31", _MOST))
    optimizer: Mapping[str, Any] = key(
        types.MappingProxyType({"name": "adam"}),
        "One of optax's by `name`, and its keywords. It follows the clipping, and has the rate below.",
    )
    learning_rate: float = key(1e-3, "At first, or of a schedule the peak.", ABOVE_0)
    schedule: Mapping[str, Any] = key(
        types.MappingProxyType({"name": "plateau"}),
        "plateau: the rate falls at each evaluation without progress; or one of optax's by `name`, and its"
        " keywords, of each step. A length that is left out is that of max_epochs.",
    )
    warmup_steps: int = key(0, "Steps in which the rate rises from 0, before a schedule begins.", at_least(0))
    ema: float = key(
        0.0,
        "Decay of the moving average of parameters and BatchNorm statistics, which is evaluated and kept"
        " instead of these; 0: none. After n steps it is at most (1 + n) / (10 + n).",
        Rule(lambda value: 0 <= value < 1, "in [0, 1)"),
    )
    clip_norm: float = key(10.0, "Gradients are clipped to this global norm.", ABOVE_0)
    patience: int = key(
        2,
        "Evaluations in a row without progress that end the run.",
        at_least(1),
    )
    learning_rate_decay: float = key(
        0.1,
        "Of a plateau: what the rate is multiplied by at an evaluation without progress.",
        Rule(lambda value: 0 < value <= 1, "in (0, 1]"),
    )
    min_learning_rate: float = key(1e-6, "Of a plateau: the rate does not fall below.", at_least(0))
    min_delta: float = key(1e-6, "Of what is monitored, to be progress.", at_least(0))
    log_every: int = key(20, "Steps from line to line.", at_least(1), decides="nothing")
    checkpoint_every: int = key(
        1000, "Steps from checkpoint to checkpoint; also after each epoch.", at_least(1), decides="nothing"
    )


@dataclass(frozen=True)
class MeshConfig:
    """Devices that share a run; it may go on on another mesh (docs/devices.md)."""

    data: int = key(
        1,
        "Batches by rows; -1: all devices that the others leave.",
        Rule(lambda value: value == -1 or value >= 1, "at least 1, or -1 for all devices"),
        decides="nothing",
    )
    student: int = key(1, "Stacks of students by copies.", at_least(1), decides="nothing")
    table: int = key(
        1, "The embedding table and its optimiser state by rows.", at_least(1), decides="nothing"
    )


@dataclass(frozen=True)
class Config:
    """All keys of a run. The defaults are the authors' (Section 4.1.5 and their run logs)."""

    seed: int = key(
        2024,
        "Of initialisation, dropout and data order; the split has one of its own (experiments.prepare).",
        Rule(lambda value: 0 <= value < 2**32, "in [0, 2^32)"),
        decides="run",
    )
    implementation: str = key(OURS, "What trains it; benchmarks.accuracy has results of another.")
    data: DataConfig = DataConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    transfer: TransferConfig = TransferConfig()
    train: TrainConfig = TrainConfig()
    mesh: MeshConfig = MeshConfig()

    @classmethod
    def from_dict(cls, values: Any) -> "Config":
        """Read nested data, or a config that was read already.

        Raises InputError for an unknown key, with the nearest valid one, and for a value that a key cannot
        have.
        """
        return values if isinstance(values, Config) else read(cls, plain(values), "config")

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested data, as config files and result.json have it."""
        return to_dict(self)


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
    for name, value in values.items():
        if name in keys and name != rest:
            where = f"{path}.{name}"
            nested = dataclasses.is_dataclass(hints[name])
            given[name] = (
                read(hints[name], value, where) if nested else _value(keys[name], hints[name], value, where)
            )
        elif rest is not None:
            others[name] = value
        else:
            raise unknown("config key", f"{path}.{name}", (f"{path}.{valid}" for valid in keys))
    return group(**given, **({rest: others} if rest else {}))


def _value(field: dataclasses.Field, hint: Any, value: Any, path: str) -> Any:
    """The value as its key has it; InputError, naming the key, where it cannot have it."""
    kinds = _kinds(hint)
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


def _kinds(hint: Any) -> tuple[type, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (typing.get_origin(hint) or hint,)


def kinds(keys: Iterable[str]) -> tuple[type, ...]:
    """Return the types that a key of a run's config can have; () for one that others describe."""
    group: Any = Config
    for name in keys:
        hint = typing.get_type_hints(group).get(name, Mapping)
        if not dataclasses.is_dataclass(hint):
            return () if hint is Mapping else _kinds(hint)
        group = hint
    return ()


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
