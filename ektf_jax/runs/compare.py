"""Finished runs on the same rows: is one better, and how sure is that."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ektf_jax import significance
from ektf_jax.data import encoded
from ektf_jax.errors import InputError
from ektf_jax.result import ENSEMBLE, Result
from ektf_jax.runs.run import Run
from ektf_jax.significance import Estimate
from ektf_jax.training import finite, rundata
from ektf_jax.training.record import check_data


class Comparison(NamedTuple):
    """Two predictors on the rows of a split: AUC and logloss of each, and of the first less the second."""

    rows: int
    one: dict[str, Estimate]
    other: dict[str, Estimate]
    difference: dict[str, Estimate]


def compare(
    one: Run, other: Run, split: str = "test", predictors: tuple[str, str] = (ENSEMBLE, ENSEMBLE)
) -> Comparison:
    """Compare two runs, or two predictors of one, on a split of their dataset.

    `predictors` are "ensemble", "best" (the student with the best AUC on validation data) or a student's
    number. Raises InputError for runs of two datasets, and for a split of one class.
    """
    indices = [_row(run.result, name) for run, name in zip((one, other), predictors, strict=True)]
    check_data(other.workdir, one.schema, one.rows)
    rows = split_of(one, split)
    a, b = (logits_of(run, rows, split)[index] for run, index in zip((one, other), indices, strict=True))
    return compare_logits(rows.labels, a, b)


def compare_logits(labels: NDArray[np.float32], a: NDArray[np.float32], b: NDArray[np.float32]) -> Comparison:
    """`compare` of two predictors' logits [N]. Raises ValueError as `metrics.auc` does."""
    pairs = {"auc": significance.aucs(labels, a, b), "logloss": significance.loglosses(labels, a, b)}
    first, second, difference = ({name: found[i] for name, found in pairs.items()} for i in range(3))
    return Comparison(len(labels), first, second, difference)


def split_of(run: Run, split: str) -> encoded.Split:
    """The rows of a split of a run's dataset, both classes among them."""
    data = run.rows
    schema, splits = encoded.open_dataset(data, [split])
    check_data(run.workdir, schema, data)
    rundata.check_classes(data, split, splits[split])
    return splits[split]


def logits_of(run: Run, rows: encoded.Split, split: str) -> NDArray[np.float32]:
    """Logits [K + 1, N] of a run's students and its ensemble; InputError where one is not finite."""
    logits = run.logits(rows.ids, rows.dense)
    names = [*(f"student {k}" for k in range(len(logits) - 1)), "the ensemble"]
    try:
        finite.check({f"logit of {name}": row for name, row in zip(names, logits, strict=True)})
    except finite.NotFinite as error:
        raise InputError(
            f"{run.workdir}: evaluation of {split}: {error}; train again in another --workdir"
        ) from None
    return logits


def _row(result: Result, name: str) -> int:
    """Of logits [K + 1, N] the row of a predictor."""
    student = result.find("--predictors", name)
    return -1 if student is None else student
