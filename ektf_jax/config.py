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
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ektf_jax.errors import InputError
from ektf_jax.keys import (
    ABOVE_0,
    NOT_NEGATIVE,
    Rule,
    at_least,
    current,
    key,
    plain,
    read,
    to_dict,
    types_of,
    within,
)

OURS = "ektf_jax"
FUSIONS = ("mean", "sum", "concat")
STACKS = ("auto", "vmap", "scan")
MEMBERS = ("separate", "adapters")
MATMUL_DTYPES = ("float32", "bfloat16")
BLENDS = ("logits", "probabilities")
RESIDENCES = ("auto", "host", "device")

_MOST = 2**31  # of steps, rows and epochs
_WIDEST = 2**16  # a dimension, or a number of students


_NOTHING: Mapping[str, Any] = types.MappingProxyType({})
_DIRECTORIES = Rule(
    lambda names: all(isinstance(name, str) and name for name in names), "names of directories"
)


@dataclass(frozen=True)
class DataConfig:
    path: str = key(
        "",
        "An encoded dataset, which `ektf prepare` wrote; empty where the run generates its own.",
        decides="nothing",  # dataset.json says which data a run is of, wherever they lie
    )
    synthetic: Mapping[str, Any] = key(
        _NOTHING,
        "Arguments of ektf_jax.data.synthetic.SyntheticSpec, of a run that generates its own dataset.",
    )
    batch_size: int = key(
        4096, "Rows of a step.", at_least(2, " (BatchNorm needs two rows) and below 2^31", _MOST)
    )
    residence: str = key(
        "auto",
        "Where the rows lie in training. host: a batch goes to the devices at a time; device: all of them are"
        " there, and the steps up to the next line or checkpoint are one dispatch; auto: device where half of"
        " an accelerator's memory holds them, and host on a CPU. The bits are the same, but with teachers on"
        " a CPU.",
        RESIDENCES,
        decides="nothing",
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
        "K, dealt out in turn over the kinds of students below, in their order (a ConfigDict sorts them).",
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
    matmul_dtype: str = key(
        "float32",
        "Of dense layers' products; bfloat16 rounds the factors alone, and sums in float32.",
        MATMUL_DTYPES,
        formerly="products",
    )
    blend: Mapping[str, Any] = key(
        _NOTHING,
        "Of an ensemble of finished runs, which experiments.ensemble makes, and none trains: `BlendConfig`.",
    )

    @property
    def labels(self) -> list[str]:
        """For each of the K students its label in `students`, in the order of the predictions."""
        kinds = list(self.students)
        return [kind for turn, kind in enumerate(kinds) for _ in range(turn, self.num_students, len(kinds))]


@dataclass(frozen=True)
class BlendConfig:
    """Keys below `ensemble.blend`, whose `students` are those of all members in their order."""

    of: str = key("logits", "What the weighted mean is of.", BLENDS)
    weights: tuple[float, ...] = key((), "Of each student; they sum to 1.")
    members: tuple[Mapping[str, Any], ...] = key((), "A `MemberConfig` for each run.")


@dataclass(frozen=True)
class MemberConfig:
    """Keys of one run in `ensemble.blend.members`."""

    run: str = key("", "Its working directory when it became a member, relative to the ensemble's.")
    students: tuple[int, ...] = key((), "The numbers of its students that are here, rising.")
    embedding: Mapping[str, Any] = key(_NOTHING, "As the run has it.")
    ensemble: Mapping[str, Any] = key(_NOTHING, "As the run has it.")


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
        _DIRECTORIES,
    )
    self: int = key(
        1,
        "Passes of each student in a step, with different dropout, that are taught by their mean (QNN-alpha"
        " has 2); 1: no self-transfer.",
        within(1, _WIDEST),
    )
    options: Mapping[str, Any] = key(_NOTHING, "Per method its group of options.", rest=True)

    def __post_init__(self) -> None:
        group = self.name.rpartition(":")[2]
        if not isinstance(given := self.options.get(group, {}), Mapping):
            raise InputError(f"config.transfer.{group} = {given!r} must be a group of keys")


@dataclass(frozen=True)
class TrainConfig:
    init_from: tuple[str, ...] = key(
        (),
        "Working directories of finished runs whose weights it starts from, relative to this run's; in a"
        " sweep their names. One run of its shape, or several whose students fill the K in order"
        " (docs/ensembles.md); empty: random.",
        _DIRECTORIES,
    )
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
        "Of initialisation, dropout and data order; the split has one of its own (`ektf prepare`).",
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

    @property
    def sources(self) -> tuple[str, ...]:
        """The finished runs that it learns from, by name: its teachers, and those whose weights it has."""
        return tuple(dict.fromkeys((*self.transfer.teachers, *self.train.init_from)))

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


def current_names(keys: Iterable[str]) -> tuple[str, ...]:
    """Return the names that the keys on the way to one of a run's config have now."""
    group: Any = Config
    names: list[str] = []
    for name in keys:
        if group is not None:
            name = current(group, name)
            hint = typing.get_type_hints(group).get(name)
            group = hint if dataclasses.is_dataclass(hint) else None
        names.append(name)
    return tuple(names)


def kinds(keys: Iterable[str]) -> tuple[type, ...]:
    """Return the types that a key of a run's config can have; () for one that others describe."""
    group: Any = Config
    for name in keys:
        hint = typing.get_type_hints(group).get(name, Mapping)
        if not dataclasses.is_dataclass(hint):
            return () if hint is Mapping else types_of(hint)
        group = hint
    return ()


def is_group(keys: Iterable[str]) -> bool:
    """Return whether keys lead to a group of a run's config: `train`, or a method's options in `transfer`."""
    group: Any = Config
    names = list(keys)
    for depth, name in enumerate(names, start=1):
        rest = any(field.metadata.get("rest") for field in dataclasses.fields(group))
        hint = typing.get_type_hints(group).get(name)
        if not dataclasses.is_dataclass(hint):
            return rest and hint is None and depth == len(names)
        group = hint
    return True
