"""What metrics of scored rows read beside logits: labels, weights, groups.

All of it is on disk until the last row is there.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ektf_jax import metrics
from ektf_jax.data import parts
from ektf_jax.data.chunk import Chunk
from ektf_jax.data.spec import TableSpec
from ektf_jax.errors import InputError, unknown

METRICS = ("auc", "logloss", "calibration", "calibration_error")


class Asked(NamedTuple):
    """The columns that metrics read beside the label: of groups and of weights, if they have such."""

    by: str | None = None
    weight: str | None = None

    @property
    def columns(self) -> list[str]:
        return [name for name in (self.weight, self.by) if name is not None]


class Truth(NamedTuple):
    """Of rows [N]: labels; weights; groups as their distinct values and, of each row, which one it has."""

    labels: NDArray[np.uint8]
    weights: NDArray[np.float32] | None = None
    groups: tuple[list[str], NDArray[Any]] | None = None


def choose(names: Sequence[str] | None, by: str | None) -> list[str]:
    """Choose metrics: `names` or, if None, `METRICS` and, where `by` names groups, those over groups.

    Raises InputError for names that are none, and where groups and metrics over groups are not both given.
    """
    grouped = [name for name, metric in metrics.METRICS.items() if metric.needs]
    if names is None:
        return [name for name in metrics.METRICS if name in METRICS or (by is not None and name in grouped)]
    for name in names:
        if name not in metrics.METRICS:
            raise unknown("--metrics", name, metrics.METRICS)
        if name in grouped and by is None:
            raise InputError(f"--metrics={name} is over groups; name their column by --by")
    if by is not None and not set(names) & set(grouped):
        raise InputError(
            f"--by={by} names groups, and none of --metrics={','.join(names)} is over groups; leave --by out,"
            f" or add {' or '.join(grouped)}"
        )
    return list(names)


def truth_of(spec: TableSpec, asked: Asked, chunk: Chunk, wanted: NDArray[np.bool_] | None = None) -> Truth:
    """Read the columns of a chunk, or of the rows of it that are `wanted`. InputError for bad values."""
    rows = np.arange(len(chunk.frame))
    keep = slice(None) if wanted is None else wanted
    try:
        labels = parts.labels_of(spec, chunk.frame[spec.label], rows, chunk.where)[keep]
    except InputError as error:  # clicks that are not known yet, say
        raise InputError(f"{error}, or give --metrics= to score without labels") from None
    weights, groups = None, None
    if asked.weight is not None:
        texts = chunk.frame[asked.weight]
        weights = parts.weights_of(asked.weight, texts, rows, chunk.where).to_numpy()[keep]
    if asked.by is not None:
        values, code = _groups(spec, asked.by, chunk)
        groups = values, code[keep]
    return Truth(labels, weights, groups)


def _groups(spec: TableSpec, by: str, chunk: Chunk) -> tuple[list[str], NDArray[Any]]:
    """Numbers are grouped as they are written, other fields by what the model reads, the first of several."""
    field = next((field for field in spec.fields if field.name == by), None)
    ((cells, rows, code),) = parts.distinct(chunk.frame, [by])
    if field is not None and not field.is_number:
        cells, _ = parts.values_of(field, cells, rows, chunk.where)
    if field is not None and field.kind == "multi":
        cells = cells.list.first()
    return cells.fill_null("").to_list(), code


class Judge:
    """Keeps logits and truths of rows in a directory, and computes metrics when all rows are there."""

    def __init__(self, directory: Path, files: contextlib.ExitStack):
        self._directory, self._stack = directory, files
        self._files: dict[str, Any] = {}
        self._numbers: dict[str, int] = {}

    def add(self, logits: NDArray[np.float32], truth: Truth) -> None:
        """Add logits [P, N] of the next rows, and what is true of them."""
        self._write("logits", logits.T)
        self._write("labels", truth.labels)
        if truth.weights is not None:
            self._write("weights", truth.weights)
        if truth.groups is not None:
            values, code = truth.groups
            number = [self._numbers.setdefault(value, len(self._numbers)) for value in values]
            self._write("groups", np.array(number, np.uint32)[code])

    def metrics(self, predictors: int, names: Sequence[str]) -> list[dict[str, float]]:
        """Compute metrics by name, of each predictor. Raises ValueError where the labels have none."""
        self._numbers.clear()
        for file in self._files.values():
            file.flush()
        logits = np.memmap(self._directory / "logits", np.float32, "r").reshape(-1, predictors)
        labels = self._read("labels", np.uint8)
        weights = self._read("weights", np.float32) if "weights" in self._files else None
        needs = {"groups": self._read("groups", np.uint32)} if "groups" in self._files else {}
        # One predictor at a time: what a metric needs of memory is that of one column.
        return [
            metrics.evaluate(labels, logits[None, :, at].copy(), names, weights=weights, **needs)[0]
            for at in range(predictors)
        ]

    def _write(self, name: str, column: NDArray[Any]) -> None:
        if name not in self._files:
            self._files[name] = self._stack.enter_context((self._directory / name).open("wb"))
        self._files[name].write(np.ascontiguousarray(column).data)

    def _read(self, name: str, dtype: type[np.generic]) -> NDArray[Any]:
        return np.fromfile(self._directory / name, dtype)
