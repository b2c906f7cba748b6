"""Runs read back from their result.json files. What a run is, its config says, never its path."""

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ektf_jax.config import OURS, Config
from ektf_jax.errors import InputError
from ektf_jax.files import check_shape, parse_json
from ektf_jax.report.names import Names, beside
from ektf_jax.result import NAME, SPLIT
from ektf_jax.training.identity import arguments_in_full, identity

T = TypeVar("T")

# What every result has; `_read` looks at the rest.
_SHAPE: dict[str, Any] = {
    "config": {
        "ensemble": {"num_students": int, "students": dict, "fusion": str},
        "transfer": {"name": str},
    },
    "dataset": {"name": str},
    "params": int,
    "seed": int,
    "epochs": int,
    "best_epoch": int,
    "valid": SPLIT,
    "test": SPLIT,
    "train_samples_per_second": int | float,
    "versions": dict,
}
_LARGEST = 1e6  # a logloss
_AS_IN_CONFIGS = Names()
# Whatever comes of what a file holds, where that is something else.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Metrics(NamedTuple):
    """Logloss and AUC, as a fraction."""

    logloss: float
    auc: float


@dataclass(frozen=True)
class Outcome:
    """One finished run: what was trained, and its metrics on the test split.

    `label` is what it is, without K: "single MLP", "plain mean of MLP". `kinds` are the models of the K
    students in the order of their predictions, as `Names.models` has them; `students` their metrics, () for a
    concat ensemble. `method` is "none" for a model alone, "blend" for an ensemble of runs. `taught`: whether
    a finished run teaches, though the method needs none. `settings` is
    the config's identity as a recipe, with the students' arguments in full, and the encoding and the rows
    of the dataset.
    `more` are the ensemble's other metrics. `valid` and `valid_students` are as `ensemble` and `students`, of
    the validation split. `diversity` of the students on the test split,
    {} of one; `effective_rank` of their embeddings, the mean over fields, and `flops_per_sample` of all
    students' forward pass may be nan.
    `curve` has the ensemble's validation AUC after each epoch, () without a metrics.jsonl. `wall_seconds` may
    be nan.
    """

    path: str
    label: str
    dataset: str
    rows: Mapping[str, int]
    features: int | None
    seed: int
    num_students: int
    kinds: tuple[str, ...]
    method: str
    options: Mapping[str, Any]
    taught: bool
    fusion: str
    settings: Mapping[str, Any]
    ensemble: Metrics
    more: Mapping[str, float]
    students: tuple[Metrics, ...]
    valid: Metrics
    valid_students: tuple[Metrics, ...]
    diversity: Mapping[str, float]
    effective_rank: float
    parameters: int
    flops_per_sample: float
    epochs: int
    best_epoch: int
    samples_per_second: float
    wall_seconds: float
    device: str
    versions: Mapping[str, str]
    curve: tuple[float, ...]

    @property
    def plain(self) -> bool:
        """Whether its students are whole, start at random and are not averaged over steps, as the paper's."""
        as_there = {"ensemble.members": "separate", "train.ema": 0, "train.init_from": []}
        return all(self.settings[key] == value for key, value in as_there.items())

    @property
    def shares(self) -> bool:
        """Whether its students are `plain`, read one table and are taught as the paper's."""
        return (
            self.plain
            and self.settings["embedding.sharing"] in ("shared", 0)
            and self.settings["transfer.self"] == 1
            and not self.taught
        )

    @property
    def peer(self) -> str | None:
        """The other implementation that trained it, None for this one."""
        implementation = str(self.settings["implementation"])
        return None if implementation == OURS else implementation

    @property
    def alone(self) -> bool:
        return self.num_students == 1 and self.method == "none"

    @property
    def best_student(self) -> Metrics:
        """The test metrics of the student with the best validation AUC: what a user would have chosen."""
        return self.students[self._by_validation[-1]]

    @property
    def worst_student(self) -> Metrics:
        """The test metrics of the student with the worst validation AUC."""
        return self.students[self._by_validation[0]]

    @property
    def best_on_validation(self) -> Metrics:
        """The validation metrics of `best_student`."""
        return self.valid_students[self._by_validation[-1]]

    @property
    def _by_validation(self) -> list[int]:
        """Students from the worst to the best; of equal ones the first is the better."""
        return sorted(range(len(self.students)), key=lambda k: (self.valid_students[k].auc, -k))


def load(
    directory: Path, broken: Callable[[str], object] | None = None, names: Names = _AS_IN_CONFIGS
) -> list[Outcome]:
    """All runs below a directory, called by `names`: per dataset single models, then by method, students, K
    and seed.

    `broken` is told of each run whose files cannot be read, which is left out. Raises InputError where there
    is no run, and without `broken` for the first that cannot be read.
    """
    paths = sorted(directory.rglob(NAME))
    if not paths:
        raise InputError(f"{directory}: no {NAME} below it; train with `ektf train` first")
    runs: list[Outcome] = []
    errors: list[InputError] = []
    for path in paths:
        try:
            runs.append(_read(path, str(path.parent.relative_to(directory)), names))
        except InputError as error:
            errors.append(error)
    if errors and (broken is None or not runs):
        raise errors[0]
    for left_out in errors:
        assert broken is not None
        broken(str(left_out))
    return sorted(_with_rows(runs), key=lambda run: _order(run, names))


def _with_rows(runs: list[Outcome]) -> list[Outcome]:
    """Runs on the same rows have one encoding: encoders of several versions can agree.

    Results of version 0.1.0 do not say which rows they are of: the others', where those are of one set.
    """
    known: dict[str, set[str]] = {}
    encodings: dict[str | None, str] = {}
    for run in runs:
        encoding, rows = run.settings["encoding"], run.settings["rows"]
        if rows is not None:
            known.setdefault(encoding, set()).add(rows)
            encodings.setdefault(rows, encoding)
    only = {encoding: next(iter(rows)) for encoding, rows in known.items() if len(rows) == 1}

    def unified(run: Outcome) -> Outcome:
        encoding, rows = run.settings["encoding"], run.settings["rows"]
        rows = only.get(encoding) if rows is None else rows
        encoding = encodings.get(rows, encoding)
        return dataclasses.replace(run, settings={**run.settings, "encoding": encoding, "rows": rows})

    return [unified(run) for run in runs]


def _order(run: Outcome, names: Names) -> tuple[Any, ...]:
    kinds = sorted(map(names.position, set(run.kinds)))
    return (
        run.dataset,
        not run.alone,
        names.position_of_method(run.method),
        len(kinds),
        kinds,
        run.label,
        run.num_students,
        run.seed,
        run.path,
    )


def _read(path: Path, name: str, names: Names) -> Outcome:
    try:
        result: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        check_shape(result, _SHAPE)
        config, test = Config.from_dict(result["config"]), result["test"]
        used = result.get("embedding_use", {})
        recorded = _method(config, result)
        config = _as_trained(config, recorded["needs_peers"])
        ensemble = config.ensemble
        kinds = tuple(names.kind(ensemble.students[label]) for label in ensemble.labels)
        students, valid_students = (
            tuple(_metrics(student) for student in result[split]["students"]) for split in ("test", "valid")
        )
        for of in (students, valid_students):
            if len(of) != (0 if ensemble.fusion == "concat" else len(kinds)):
                raise ValueError(f"metrics of {len(of)} students, not {len(kinds)}")
        if not 0 <= result["params"] < 2**63:
            raise ValueError(f"params is {result['params']}")
        if not (0 if ensemble.blend else 1) <= result["best_epoch"] <= result["epochs"] < 2**31:
            raise ValueError(f"best_epoch is {result['best_epoch']} of {result['epochs']}")
        options = {} if config.transfer.name == "none" else recorded["options"]
        taught = bool(config.transfer.teachers) and not recorded["needs_teachers"]
        settings = identity(
            config, decides=["recipe"], students=_in_full(ensemble.students, result), options=options
        )
        return Outcome(
            path=name,
            label=_label(config, kinds, options, names, taught),
            dataset=_dataset(result["dataset"]),
            rows={str(split): int(rows) for split, rows in result["dataset"].get("rows", {}).items()},
            features=None if (features := result["dataset"].get("features")) is None else int(features),
            seed=int(result["seed"]),
            num_students=ensemble.num_students,
            kinds=kinds,
            method="blend" if ensemble.blend else config.transfer.name,
            options=options,
            taught=taught,
            fusion=str(ensemble.blend.get("of", ensemble.fusion)),
            settings=settings | {"encoding": _encoding(result["dataset"]), "rows": _rows(result["dataset"])},
            ensemble=_metrics(test["ensemble"]),
            more={
                str(name): float(value)
                for name, value in test["ensemble"].items()
                if name not in Metrics._fields
            },
            students=students,
            valid=_metrics(result["valid"]["ensemble"]),
            valid_students=valid_students,
            diversity={str(name): float(value) for name, value in test.get("diversity", {}).items()},
            effective_rank=_mean([float(use["effective_rank"]) for use in used.values()]),
            flops_per_sample=float(result.get("flops_per_sample", "nan")),
            parameters=int(result["params"]),
            epochs=int(result["epochs"]),
            best_epoch=int(result["best_epoch"]),
            samples_per_second=float(result["train_samples_per_second"]),
            wall_seconds=float(result.get("wall_seconds", "nan")),
            device=str(result.get("device", "unknown")),
            versions={str(name): str(version) for name, version in result["versions"].items()},
            curve=tuple(read_epochs(path.with_name("metrics.jsonl"), _valid_auc)),
        )
    except (*UNREADABLE, OSError) as error:
        if isinstance(error, InputError) and str(error).startswith(str(path.parent)):
            raise
        raise InputError(f"{path}: not a result of this project ({error!r}); remove or repair it") from None


def _dataset(dataset: Mapping[str, Any]) -> str:
    """The name; of synthetic raw files another, so that nothing sets them beside the paper's numbers."""
    synthetic = dataset.get("source", {}).get("synthetic")
    return f"{dataset['name']}_synthetic" if synthetic else dataset["name"]


def _encoding(dataset: Mapping[str, Any]) -> str:
    """What tells one encoding of a dataset from another: its files, split, vocabularies and rows."""
    return _digest({key: value for key, value in dataset.items() if key not in ("name", "arrays")})


def _rows(dataset: Mapping[str, Any]) -> str | None:
    """What tells one set of rows from another of the same description, where the result says it."""
    return _digest(dataset["arrays"]) if "arrays" in dataset else None


def _digest(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, allow_nan=False).encode()).hexdigest()[:8]


def _method(config: Config, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options in full of a run's method, and what it needs: as recorded, else as the code is now."""
    if "method" in result:
        check_shape(result["method"], {"options": dict}, "method")
        needs = {key: bool(result["method"][key]) for key in ("needs_peers", "needs_teachers")}
        return {"options": result["method"]["options"], **needs}
    from ektf_jax import transfer

    method = transfer.METHODS.get(config.transfer.name)
    return {
        "options": transfer.options_in_full(config.transfer),
        "needs_peers": method is not None and method.needs_peers,
        "needs_teachers": method is not None and method.least_teachers > 0,
    }


def _as_trained(config: Config, needs_peers: bool) -> Config:
    """At K = 1 a method that needs peers does nothing but for a teacher: the model is alone, as without
    transfer."""
    if config.ensemble.num_students > 1 or not needs_peers or config.transfer.teachers:
        return config
    return dataclasses.replace(config, transfer=dataclasses.replace(config.transfer, name="none"))


def _label(
    config: Config, kinds: Sequence[str], options: Mapping[str, Any], names: Names, taught: bool
) -> str:
    ensemble, transferred = config.ensemble, config.transfer
    students = names.all_of(kinds)
    alone = ensemble.num_students == 1 and transferred.name == "none" and not ensemble.blend
    train = config.train
    sharing = "shared" if alone else config.embedding.sharing
    more = beside(sharing, transferred.self, ensemble.members, train.ema, train.init_from, taught=taught)
    if alone:
        return f"single {students}{more}"
    if ensemble.blend:
        return f"{names.method('blend', options, str(ensemble.blend['of']))} of {students}{more}"
    return f"{names.method(transferred.name, options, ensemble.fusion)} of {students}{more}"


def _in_full(students: Mapping[str, Any], result: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's students with all arguments: as recorded, else as the code is now."""
    if recorded := result.get("students"):
        return recorded
    from ektf_jax.students import REGISTRY

    return {
        label: arguments_in_full(REGISTRY[given["name"]], given) if given["name"] in REGISTRY else given
        for label, given in students.items()
    }


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else float("nan")


def _metrics(values: Mapping[str, Any]) -> Metrics:
    metrics = Metrics(logloss=float(values["logloss"]), auc=float(values["auc"]))
    if not (0 <= metrics.logloss <= _LARGEST and 0 <= metrics.auc <= 1):
        raise ValueError(f"no metrics: {values}")
    return metrics


def read_epochs(path: Path, read: Callable[[Any, int], T]) -> list[T]:
    """What `read` makes of each line of a metrics.jsonl and its number, from 1 on; [] without the file.

    Raises InputError for a line that is no JSON, or of which `read` raises what `UNREADABLE` has.
    """
    found = []
    # What is no UTF-8 is no JSON either, and the line that has it is named.
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            found.append(read(parse_json(line), number))
        except UNREADABLE as error:
            raise InputError(
                f"{path}: line {number}: not an evaluation ({error!r}); remove or repair it"
            ) from None
    return found


def _valid_auc(epoch: Any, number: int) -> float:
    if epoch["epoch"] != number:
        raise ValueError(f"epoch {epoch['epoch']}, not {number}")
    return _metrics({"logloss": 0} | epoch["valid"]["ensemble"]).auc
