"""How much a finished run leans on each field: permutation importance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ektf_jax import metrics
from ektf_jax.data.encoded import Split
from ektf_jax.runs.compare import logits_of, split_of
from ektf_jax.runs.judge import find_field
from ektf_jax.runs.run import Run


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
    Raises InputError as `logits_of` and `split_of` do.
    """
    sign = {"higher": 1.0, "lower": -1.0}[metrics.METRICS[metric].better]
    rows = split_of(run, split)
    before = _values(rows, logits_of(run, rows, split), metric)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(rows.labels)) for _ in range(repeats)]
    found = []
    seen = 0
    for field in run.schema.fields:
        _, slots = find_field(run, field.name, "field")
        ids, dense = np.array(rows.ids), None if rows.dense is None else np.array(rows.dense)
        after = []
        for order in orders:
            ids[:, slots] = rows.ids[order, slots]
            if dense is not None and field.scale is not None:
                dense[:, seen] = rows.dense[order, seen]  # type: ignore[index]  # there, too
            after.append(_values(rows, run.logits(ids, dense), metric))
        seen += field.scale is not None
        found.append(Importance(field.name, sign * (before - np.array(after))))
    return sorted(found, key=lambda one: -one.mean[-1])


def _values(rows: Split, logits: NDArray[np.float32], metric: str) -> NDArray[np.float64]:
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
