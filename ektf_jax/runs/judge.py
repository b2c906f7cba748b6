"""A finished run's predictions of a split, for all rows or those of each value of a field."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ektf_jax import metrics, significance
from ektf_jax.data import encoded, encoder
from ektf_jax.data.schema import Field
from ektf_jax.errors import unknown
from ektf_jax.runs.run import Run
from ektf_jax.training import rundata

_SURE: dict[str, Callable[..., significance.Estimate]] = {
    "auc": significance.auc,
    "logloss": significance.logloss,
}


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
        words = encoder.read_words(run.data / encoder.WORDS)
        own = words.filter(words["field"] == field.name)
        labels |= dict(zip(own["id"].to_list(), own["value"].to_list(), strict=True))
    return labels


def judge(
    labels: NDArray[np.floating], logits: NDArray[np.floating], names: Sequence[str], **needs: Any
) -> dict[str, float | None]:
    """Metrics by name of logits [N]; None where they have none, such as AUC of one class.

    AUC and logloss have their 95 % intervals beside them: auc_low, auc_high.
    """
    told: dict[str, float | None] = {}
    for name in names:
        metric = metrics.METRICS[name]
        try:
            told[name] = metric.function(labels, logits, **{need: needs[need] for need in metric.needs})
        except ValueError:  # logits are finite and labels 0 or 1: what is missing is a class
            told[name] = None
            continue
        if name in _SURE:
            sure = _SURE[name](labels, logits)
            told |= {f"{name}_low": sure.low, f"{name}_high": sure.high}
    return told
