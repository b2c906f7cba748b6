"""A finished run's predictions of a split, for all rows or those of each value of a field."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ektf_jax import directories, metrics, significance
from ektf_jax.data import encoded
from ektf_jax.data.schema import Field
from ektf_jax.errors import InputError, unknown
from ektf_jax.result import ENSEMBLE
from ektf_jax.runs.compare import logits_of, split_of
from ektf_jax.runs.run import Run
from ektf_jax.training import rundata

_SURE: dict[str, Callable[..., significance.Estimate]] = {
    "auc": significance.auc,
    "logloss": significance.logloss,
}


class Predictions(NamedTuple):
    """The rows of a split, and logits [N] of them by predictor: 0 .. K-1 and "ensemble"."""

    rows: encoded.Split
    of: dict[int | str, NDArray[np.float32]]


def predictions(run: Run, split: str, predictor: str | None = None) -> Predictions:
    """What a run predicts of a split: of all its predictors, or one, named as `Result.find` has them."""
    wanted = None if predictor is None else run.result.find("--predictor", predictor)
    rows = split_of(run, split)
    logits = logits_of(run, rows, split)
    of: dict[int | str, NDArray[np.float32]] = {k: logits[k] for k in range(run.students)}
    of[ENSEMBLE] = logits[-1]
    if predictor is not None:
        name = ENSEMBLE if wanted is None else wanted
        of = {name: of[name]}
    return Predictions(rows, of)


def find_field(run: Run, name: str, what: str) -> tuple[Field, slice]:
    """A field of a run's dataset, and its slots. Raises InputError for one that there is not."""
    slot = 0
    for field in run.schema.fields:
        if field.name == name:
            return field, slice(slot, slot + field.max_len)
        slot += field.max_len
    raise unknown(what, name, [field.name for field in run.schema.fields])


def rows_by_value(run: Run, rows: encoded.Split, name: str, most: int) -> list[tuple[str, NDArray[np.intp]]]:
    """The rows of each value of a field, as their places: the `most` frequent values, then "(others)".

    A row with several values is in the group of each. "(unseen)" is what training did not know, "(none)" are
    rows without a value. Values of a dataset that was made as ids are numbers, the first being 1.
    """
    field, slots = find_field(run, name, "--by")
    ids = rows.ids[:, slots]
    ordered = np.sort(ids, axis=1)
    first = np.ones(ids.shape, bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    values, counts = np.unique(ordered[first & (ordered != 0)], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shown, rest = values[order[:most]], values[order[most:]]
    labels = _labels(run, field)
    groups = [
        (labels.get(int(value), f"{value - field.offset}"), (ids == value).any(axis=1)) for value in shown
    ]
    groups.append(("(others)", np.isin(ids, rest).any(axis=1)))
    groups.append(("(none)", (ids == 0).all(axis=1)))
    return [(label, np.flatnonzero(mask)) for label, mask in groups if mask.any()]


def _labels(run: Run, field: Field) -> dict[int, str]:
    """What the ids of a field stand for."""
    labels = {field.oov: "(unseen)"}
    if rundata.has_words(run.data):
        from ektf_jax.data import encoder  # which imports polars: metrics need none

        words = encoder.read_words(run.data / encoded.WORDS)
        own = words.filter(words["field"] == field.name)
        labels |= dict(zip(own["id"].to_list(), own["value"].to_list(), strict=True))
    return labels


def judge(
    run: Run, predictions: Predictions, names: Sequence[str], *, by: str | None = None, most: int = 20
) -> Iterator[dict[str, Any]]:
    """Metrics by name: of each predictor on all rows, then on the rows of each value of the field `by`.

    Metrics that need groups take the first value of `by` that a row has. A metric that rows do not have, such
    as GAUC where no group has both classes, is None.
    """
    rows, of = predictions
    needs = {} if by is None else {"groups": rows.ids[:, find_field(run, by, "--by")[1]][:, 0]}
    logits = np.stack(list(of.values()))
    told: list[dict[str, Any]] = [{"predictor": name} for name in of]
    for metric in names:
        try:
            found: Sequence[dict[str, Any]] = metrics.evaluate(
                rows.labels, logits, [metric], weights=rows.weights, **needs
            )
        except InputError:
            raise
        except ValueError:
            found = [{metric: None}] * len(of)
        told = [one | values for one, values in zip(told, found, strict=True)]
    yield from told
    of_rows = [name for name in names if not metrics.METRICS[name].needs]
    for value, places in () if by is None else rows_by_value(run, rows, by, most):
        labels = rows.labels[places]
        weights = None if rows.weights is None else rows.weights[places]
        about = {"by": by, "value": value, "rows": len(places), "clicks": int(labels.sum())}
        for name, logits in of.items():
            yield {"predictor": name} | about | _with_intervals(labels, logits[places], of_rows, weights)


def write(predictions: Predictions, out: Path) -> None:
    """Write the rows in their order, as CSV or Parquet: label, weight (if any), p_ensemble, p_0 .."""
    import polars as pl

    rows, of = predictions
    order = sorted(of, key=lambda name: -1 if name == ENSEMBLE else int(name))
    predicted = {f"p_{name}": metrics.probabilities(of[name]) for name in order}
    weights = {} if rows.weights is None else {"weight": np.asarray(rows.weights)}
    frame = pl.DataFrame({"label": np.asarray(rows.labels, np.int8)} | weights | predicted)
    with directories.replacing_file(out) as (new, _):
        (frame.write_csv if out.suffix == ".csv" else frame.write_parquet)(new)


def shown(run: Run, predictions: Predictions) -> tuple[NDArray[np.floating], dict[str, NDArray[np.float32]]]:
    """Labels, and of several predictors those that a figure has room for: ensemble and best student."""
    rows, of = predictions
    few = {name: of[name] for name in (ENSEMBLE, run.best)} if len(of) > 2 else of
    named = {name if name == ENSEMBLE else f"student {name}": logits for name, logits in few.items()}
    return np.asarray(rows.labels), {str(name): logits for name, logits in named.items()}


def _with_intervals(
    labels: NDArray[np.floating],
    logits: NDArray[np.floating],
    names: Sequence[str],
    weights: NDArray[np.floating] | None = None,
) -> dict[str, float | None]:
    """Metrics by name of logits [N]; None where they have none, such as AUC of one class.

    AUC and logloss have their 95 % intervals beside them, auc_low and auc_high, unless rows have weights.
    """
    told: dict[str, float | None] = {}
    weighed = {} if weights is None else {"weights": weights}
    for name in names:
        try:
            told[name] = metrics.METRICS[name].function(labels, logits, **weighed)
        except ValueError:  # logits are finite and labels 0 or 1: what is missing is a class or a weight
            told[name] = None
            continue
        if name in _SURE and weights is None:
            sure = _SURE[name](labels, logits)
            told |= {f"{name}_low": sure.low, f"{name}_high": sure.high}
    return told
