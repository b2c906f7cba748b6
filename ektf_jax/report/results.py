"""Runs read back from their result.json files. What a run is, its config says, never its path."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ektf_jax.errors import InputError
from ektf_jax.report import names
from ektf_jax.report.published import Metrics
from ektf_jax.training.build import student_labels

# At K = 1 there is nobody to learn from: with these methods, and with none, it is the model alone.
_NEED_PEERS = ("ektf", "kd", "dml", "online_kd", "kdcl")
# What decides neither the metrics nor what is compared.
_NOT_SETTINGS = (
    *("seed", "data.path", "ensemble.stack", "train.log_every", "train.checkpoint_every"),
    *("mesh.data", "mesh.student", "mesh.table"),
)
# What a result without the key was made with: the key came later.
_UNSAID = {
    "ensemble.products": "float32",
    "embedding.sharing": "shared",
    "transfer.self": 1,
    "transfer.dml.reduction": "sum",
}
# In the config of runs that another implementation trained (`benchmarks.accuracy`).
IMPLEMENTATION = "implementation"


@dataclass(frozen=True)
class Run:
    """One finished run: what was trained, and its metrics on the test split.

    `kinds` are the models of the K students in the order of their predictions, as `names.MODELS` has them;
    `students` their metrics, () for a concat ensemble. `method` is "none" for a model alone. `settings` is
    the config, flat, without what only decides where and how fast it runs, and the encoding of the dataset.
    `curve` has the ensemble's validation AUC after each epoch, () without a metrics.jsonl. `wall_seconds` may
    be nan.
    """

    path: str
    dataset: str
    rows: Mapping[str, int]
    features: int | None
    seed: int
    num_students: int
    kinds: tuple[str, ...]
    method: str
    options: Mapping[str, Any]
    fusion: str
    settings: Mapping[str, Any]
    ensemble: Metrics
    students: tuple[Metrics, ...]
    parameters: int
    epochs: int
    best_epoch: int
    samples_per_second: float
    wall_seconds: float
    device: str
    versions: Mapping[str, str]
    curve: tuple[float, ...]

    @property
    def label(self) -> str:
        """What it is, without K: "single MLP", "plain mean of MLP", "EKTF of PNN, FINAL(1B), ECN"."""
        students = names.models(self.kinds)
        if self.alone:
            return f"single {students}"
        more = names.beside(self.settings["embedding.sharing"], self.settings["transfer.self"])
        return f"{names.method(self.method, self.options, self.fusion)} of {students}{more}"

    @property
    def shares(self) -> bool:
        """Whether its students read one table and do not teach themselves, as the paper's do."""
        return (self.settings["embedding.sharing"], self.settings["transfer.self"]) == ("shared", 1)

    @property
    def alone(self) -> bool:
        return self.num_students == 1 and self.method == "none"

    @property
    def best_student(self) -> Metrics:
        """The student with the best test AUC."""
        return max(self.students, key=lambda student: student.auc)

    @property
    def worst_student(self) -> Metrics:
        return min(self.students, key=lambda student: student.auc)


def load(directory: Path) -> list[Run]:
    """All runs below a directory: per dataset single models, then by method, students, K and seed.

    Raises InputError where there is none or a file is broken.
    """
    paths = sorted(directory.rglob("result.json"))
    if not paths:
        raise InputError(
            f"{directory}: no result.json below it; train with `python -m experiments.train` first"
        )
    runs = [_read(path, str(path.parent.relative_to(directory))) for path in paths]
    return sorted(runs, key=_order)


def _order(run: Run) -> tuple[Any, ...]:
    methods = list(names.METHODS)
    position = methods.index(run.method) if run.method in methods else len(methods)
    kinds = sorted(map(names.position, set(run.kinds)))
    return (
        run.dataset,
        not run.alone,
        position,
        len(kinds),
        kinds,
        run.label,
        run.num_students,
        run.seed,
        run.path,
    )


def _read(path: Path, name: str) -> Run:
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        config, test = result["config"], result["test"]
        ensemble = config["ensemble"]
        kinds = _kinds(config)
        method = config["transfer"]["name"]
        if ensemble["num_students"] == 1 and method in _NEED_PEERS:
            method = "none"
        options = config["transfer"].get(method, {})
        students = tuple(_metrics(student) for student in test["students"])
        if students and len(students) != len(kinds):
            raise ValueError(f"metrics of {len(students)} students, not {len(kinds)}")
        return Run(
            path=name,
            dataset=_dataset(result["dataset"]),
            rows=result["dataset"].get("rows", {}),
            features=result["dataset"].get("features"),
            seed=int(result["seed"]),
            num_students=ensemble["num_students"],
            kinds=kinds,
            method=method,
            options=options,
            fusion=ensemble["fusion"],
            settings=_UNSAID
            | _settings(config | {"transfer": {"name": method, method: options} | _passes(config)})
            | {"encoding": _encoding(result["dataset"])},
            ensemble=_metrics(test["ensemble"]),
            students=students,
            parameters=int(result["params"]),
            epochs=int(result["epochs"]),
            best_epoch=int(result["best_epoch"]),
            samples_per_second=float(result["train_samples_per_second"]),
            wall_seconds=float(result.get("wall_seconds", "nan")),
            device=result.get("device", "unknown"),
            versions=result["versions"],
            curve=_curve(path.with_name("metrics.jsonl")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a result of this project ({error!r}); remove or repair it") from None


def _dataset(dataset: Mapping[str, Any]) -> str:
    """The name; of synthetic raw files another, so that nothing sets them beside the paper's numbers."""
    synthetic = dataset.get("source", {}).get("synthetic")
    return f"{dataset['name']}_synthetic" if synthetic else dataset["name"]


def _encoding(dataset: Mapping[str, Any]) -> str:
    """What tells one encoding of a dataset from another: its files, split, vocabularies and rows."""
    told = {key: value for key, value in dataset.items() if key != "name"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


def _kinds(config: Mapping[str, Any]) -> tuple[str, ...]:
    students = config["ensemble"]["students"]
    return tuple(_kind(students[label]) for label in student_labels(config))


def _kind(student: Mapping[str, Any]) -> str:
    """The model that a student's settings name: FINAL by its blocks, DAGFM by its interaction, one's own by
    its class."""
    name = student["name"]
    if name == "final":
        return f"final{student.get('blocks', 1)}b"
    if name == "dagfm":
        return f"dagfm_{student.get('interaction', 'outer')}"
    return str(name.rpartition(":")[2])


def _passes(config: Mapping[str, Any]) -> dict[str, Any]:
    """What holds whatever the method."""
    transfer = config["transfer"]
    return {"self": transfer["self"]} if "self" in transfer else {}


def _settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in sorted(config.items()):
        path = prefix + key
        if isinstance(value, Mapping):
            flat |= _settings(value, f"{path}.")
        elif path not in _NOT_SETTINGS:
            flat[path] = value
    return flat


def _metrics(values: Mapping[str, Any]) -> Metrics:
    metrics = Metrics(logloss=float(values["logloss"]), auc=float(values["auc"]))
    if not all(map(math.isfinite, metrics)):
        raise ValueError(f"not finite: {values}")
    return metrics


def _curve(path: Path) -> tuple[float, ...]:
    """Validation AUC of the ensemble after epoch 1, 2, ...; () without the file."""
    if not path.exists():
        return ()
    curve = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            epoch = json.loads(line)
            curve.append(float(epoch["valid"]["ensemble"]["auc"]))
            if epoch["epoch"] != number:
                raise ValueError(f"epoch {epoch['epoch']}, not {number}")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: line {number}: not an evaluation of this project ({error!r}); remove or repair it"
            ) from None
    return tuple(curve)
