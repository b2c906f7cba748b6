"""How much a finished run leans on each field: permutation importance."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ektf_jax import metrics
from ektf_jax.data.encoded import Split
from ektf_jax.errors import unknown
from ektf_jax.runs.compare import logits_of, split_of
from ektf_jax.runs.judge import find_field
from ektf_jax.runs.run import Run

_ROWS_AT_ONCE = 1 << 20


class Importance(NamedTuple):
    """What a metric loses when a field's values are shuffled among the rows.

    `losses` [R, K + 1]: of each repeat, the students' and, last, the ensemble's; positive where the field
    helps, in units of the metric.
    """

    field: str
    losses: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Over the repeats, [K + 1]."""
        return self.losses.mean(axis=0)


def permutation_importance(
    run: Run, split: str = "valid", *, metric: str = "auc", repeats: int = 5, seed: int = 0
) -> list[Importance]:
    """Shuffle one field at a time and evaluate again: Breiman, Random Forests (2001), on held-out rows.

    All slots of a multi-valued field move together, and all predictors see the same shuffles. `metric` is one
    of `metrics.METRICS` of which higher or lower is better. The most important field of the ensemble comes
    first. Fields that say the same share their importance: neither is missed much while the other is there.
    Raises InputError for another split or metric, a split of one class, a dataset that is gone or not the
    run's, and predictions that are not finite; ValueError without a repeat.
    """
    if metric not in (ranking := metrics.ranking()):
        raise unknown("metric", metric, ranking)
    if repeats < 1:
        raise ValueError(f"repeats = {repeats}: expected 1 at least")
    sign = {"higher": 1.0, "lower": -1.0}[metrics.METRICS[metric].better]
    rows = split_of(run, split)
    logits = logits_of(run, rows, split)
    before = values(rows, logits, metric)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(rows.labels)) for _ in range(repeats)]
    found = []
    seen = 0
    for field in run.schema.fields:
        _, slots = find_field(run, field.name, "field")
        numbers = slice(seen, seen + (field.scale is not None))
        seen = numbers.stop
        after = [
            values(rows, shuffled, metric)
            for shuffled in _shuffled_logits(run, rows, logits, (slots, numbers), orders)
        ]
        found.append(Importance(field.name, sign * (before - np.array(after))))
    return sorted(found, key=lambda one: -one.mean[-1])


def _shuffled_logits(
    run: Run,
    rows: Split,
    logits: NDArray[np.float32],
    columns: tuple[slice, slice],
    orders: Sequence[NDArray[np.intp]],
) -> Iterator[NDArray[np.float32]]:
    """The logits [K + 1, N] of rows with some columns, ids and dense, of rows[order], for each order [N].

    `logits` [K + 1, N] are those of the rows as they are. A row is predicted once with each value that it
    gets, and not again with its own: of a field with few values, that is seldom.
    """
    slots, numbers = columns
    parts = [rows.ids[:, slots]]
    if rows.dense is not None:
        parts.append(rows.dense[:, numbers].view(np.int32))  # floats are told apart by their bits
    _, first, value = np.unique(np.column_stack(parts), axis=0, return_index=True, return_inverse=True)
    row = np.arange(len(value))
    pairs = np.stack(
        [row * len(first) + value[order] for order in (row, *orders)]
    )  # a number of (row, value)
    distinct, place = np.unique(pairs, return_inverse=True)
    known = np.empty((len(logits), len(distinct)), np.float32)
    known[:, place[0]] = logits
    missing = np.setdiff1d(np.arange(len(distinct)), place[0])
    for start in range(0, len(missing), _ROWS_AT_ONCE):
        part = missing[start : start + _ROWS_AT_ONCE]
        to, brought = np.divmod(distinct[part], len(first))
        ids, dense = rows.ids[to], None if rows.dense is None else rows.dense[to]
        ids[:, slots] = rows.ids[first[brought], slots]
        if dense is not None:
            dense[:, numbers] = rows.dense[first[brought], numbers]  # type: ignore[index]  # there, too
        known[:, part] = run.logits(ids, dense)
    for shuffled in place[1:]:
        yield known[:, shuffled]


def values(rows: Split, logits: NDArray[np.float32], metric: str) -> NDArray[np.float64]:
    """A metric of each of logits [P, N] on rows, [P]."""
    found = metrics.evaluate(rows.labels, logits, [metric], weights=rows.weights)
    return np.array([one[metric] for one in found])


def columns(found: Sequence[Importance], predictors: Sequence[str]) -> dict[str, list[str] | list[float]]:
    """As columns of a table: field, then of each predictor the mean and standard deviation of its losses."""
    table: dict[str, list[str] | list[float]] = {"field": [one.field for one in found]}
    for k, name in enumerate(predictors):
        table[name] = [float(one.mean[k]) for one in found]
        table[f"{name}_std"] = [
            float(one.losses[:, k].std(ddof=1)) if len(one.losses) > 1 else 0.0 for one in found
        ]
    return table
