"""Metrics of click probabilities by name, exact: integer counts and float64 sums.

No metric drifts with the number of rows, whatever the dtype of the logits. `METRICS` lists them: an
evaluation computes any of them, a result keeps them, reports and boards show them. One of your own is a
function of (labels [N], logits [N]), with `groups` [N] if it needs them, and its line in the table.

Rows may have `weights` [N], finite, 0 or more and not all 0: a row of weight 2 counts as two rows do. Equal
weights change nothing; others make counts float64 sums too.
"""

import inspect
import math
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ektf_jax.errors import InputError

_BLOCK_ROWS = 1 << 14  # of the logloss: float64 temporaries stay in the cache
_MANY = 100_000  # keys to sort, from which on it matters by what


def auc(labels: ArrayLike, scores: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: how often a positive row scores above a negative one, ties counted half.

    labels [N] in {0, 1}; scores [N], any float dtype: logits or probabilities, only their order matters.
    float32 is fastest. Raises ValueError for NaN scores, labels outside {0, 1}, or one class only.
    """
    positive, values = _checked(labels, scores, "scores")
    w = _weights(weights, positive)
    return _auc(positive, values) if w is None else _weighted_auc(positive, values, w)


def logloss(labels: ArrayLike, logits: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Mean binary cross-entropy in nats, straight from logits, so nothing has to be clipped.

    labels [N] in {0, 1}; logits [N]. Raises ValueError for NaN logits, labels outside {0, 1}, or no rows.
    """
    positive, values = _checked(labels, logits, "logits")
    return _logloss(positive, values, _weights(weights, positive))


def gauc(
    labels: ArrayLike, logits: ArrayLike, groups: ArrayLike, *, weights: ArrayLike | None = None
) -> float:
    """Mean AUC within groups, by their rows or their rows' weights: how well each user's items are ranked.

    labels [N] in {0, 1}; logits [N]; groups [N], any values that sort. Groups of one class have no AUC and
    are left out. The definition is that of Zhu et al., Optimized Cost per Click in Taobao Display
    Advertising (KDD 2017), with rows as weights. Raises ValueError as `auc` does, or where no group has both
    classes.
    """
    positive, values = _checked(labels, logits, "logits")
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if group.shape != positive.shape:
        raise ValueError(f"groups: expected shape [{positive.size}], got {list(np.shape(groups))}")
    if (w := _weights(weights, positive)) is not None:
        return _weighted_gauc(positive, values, group, w)
    rank = _order(values)
    order = np.lexsort((rank, group))
    positive, group, rank = positive[order], group[order], rank[order]
    # Rows that tie share a block. Each positive of a block wins over its group's negatives in earlier blocks,
    # and half over those in its own.
    new_group = np.diff(group, prepend=-1) != 0
    starts = np.flatnonzero(new_group | (np.diff(rank, prepend=rank[0]) != 0))
    positives = np.add.reduceat(positive, starts, dtype=np.int64)
    negatives = np.diff(starts, append=len(group)) - positives
    of_block = group[starts]
    below = np.cumsum(negatives) - negatives
    below -= below[np.searchsorted(of_block, of_block)]
    twice_wins = np.zeros(len(names), np.int64)
    np.add.at(twice_wins, of_block, positives * (2 * below + negatives))
    rows = np.bincount(group)
    clicked = np.bincount(group, weights=positive).astype(np.int64)
    pairs = clicked * (rows - clicked)
    both = pairs > 0
    if not both.any():
        raise ValueError(f"groups: none of {len(names)} has rows of both classes; GAUC needs one")
    aucs = twice_wins[both] / (2 * pairs[both])
    return math.fsum(aucs * rows[both]) / int(rows[both].sum())


def calibration(labels: ArrayLike, logits: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Mean predicted probability over the mean label: 1 is right, above it clicks are overestimated.

    labels [N] in {0, 1}; logits [N]. Raises ValueError as `logloss` does, or without a click.
    """
    positive, values = _checked(labels, logits, "logits")
    w = _weights(weights, positive)
    if not (positive if w is None else w[positive] > 0).any():
        raise ValueError(f"labels: none of {positive.size} rows is positive; calibration needs one")
    if w is not None:
        return math.fsum(w * probabilities(values)) / math.fsum(w[positive])
    return math.fsum(probabilities(values)) / int(np.count_nonzero(positive))


def calibration_error(
    labels: ArrayLike, logits: ArrayLike, *, bins: int = 15, weights: ArrayLike | None = None
) -> float:
    """Expected calibration error: mean |probability - click rate| over bins of equally many rows, by rows.

    labels [N] in {0, 1}; logits [N]. The rows are sorted by logit and cut into `bins` parts that differ by
    one row at most. Rows of one logit count with their common click rate: their order does not matter.
    Weights are of rows in means and click rates; bins have equally many rows whatever these weigh.
    Equal-mass bins as in Nixon et al., Measuring Calibration in Deep Learning (2019). Raises ValueError as
    `logloss` does.
    """
    positive, values = _checked(labels, logits, "logits")
    order = np.argsort(values, kind="stable")
    values, clicks = values[order], positive[order].astype(np.float64)
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    sizes = np.diff(starts, append=len(values))
    if (w := _weights(weights, positive)) is None:
        clicks = np.repeat(np.add.reduceat(clicks, starts) / sizes, sizes)
        off, total = probabilities(values) - clicks, float(len(values))
    else:
        w = w[order]
        heavy = np.maximum(np.add.reduceat(w, starts), np.finfo(np.float64).tiny)
        clicks = np.repeat(np.add.reduceat(w * clicks, starts) / heavy, sizes)
        off, total = w * (probabilities(values) - clicks), math.fsum(w)
    return math.fsum(abs(math.fsum(part)) for part in np.array_split(off, min(bins, len(values)))) / total


class Metric(NamedTuple):
    """A row of `METRICS`: function of labels and logits, which way is better, what else it needs.

    `better` is "higher", "lower", or "one" for a ratio that should be 1. `needs` names further arguments: of
    the metrics here "groups". `trained`: each evaluation of a run has it if it needs nothing, and so have
    result.json, the terminal and reports; the others are for scored files.
    """

    function: Callable[..., float]
    better: Literal["higher", "lower", "one"]
    needs: tuple[str, ...] = ()
    trained: bool = True


METRICS: dict[str, Metric] = {
    "auc": Metric(auc, "higher"),
    "logloss": Metric(logloss, "lower"),
    "gauc": Metric(gauc, "higher", needs=("groups",), trained=False),
    "calibration": Metric(calibration, "one", trained=False),
    "calibration_error": Metric(calibration_error, "lower", trained=False),
}


def of_runs() -> list[str]:
    """Name the metrics that each evaluation of a run has: those that are `trained` and need nothing."""
    return [name for name, metric in METRICS.items() if metric.trained and not metric.needs]


def ranking() -> list[str]:
    """Name the metrics that rank predictors: higher or lower is better, and they need nothing else."""
    return [name for name, metric in METRICS.items() if metric.better != "one" and not metric.needs]


def check(names: Sequence[str], given: Collection[str]) -> None:
    """Raise InputError for an unknown metric, or one that does not go with what is `given` beside logits.

    That lacks what it needs, or has "weights", which it does not take.
    """
    for name in names:
        if name not in METRICS:
            raise InputError(f"metric {name!r} is unknown: use one of {', '.join(METRICS)}")
        if lacking := [need for need in METRICS[name].needs if need not in given]:
            raise InputError(f"{name} needs {lacking[0]}, and got none")
        if "weights" in given and "weights" not in inspect.signature(METRICS[name].function).parameters:
            raise InputError(
                f"{name} takes no weights, and the rows have some; give its function that argument, or leave"
                " it out (docs/metrics.md)"
            )


def evaluate(
    labels: ArrayLike,
    logits: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    weights: ArrayLike | None = None,
    **needs: Any,
) -> list[dict[str, float]]:
    """Metrics by name of P predictors over the same rows, as many at a time as there are cores.

    labels [N] in {0, 1}; logits [P, N], say the K students and their ensemble; `names` by default those of
    `of_runs`; `weights` [N] of the rows, if they have some, go to every metric; `needs` holds what the
    metrics need beside them, such as `groups` [N]. Returns one {name: value} per predictor, in their order.
    Raises ValueError as the metrics do, and InputError as `check`.
    """
    names = of_runs() if names is None else names
    weighed = {} if weights is None else {"weights": weights}
    check(names, needs.keys() | weighed)
    predictors = np.asarray(logits)
    if predictors.ndim != 2:
        raise ValueError(f"logits: expected shape [P, N], got {list(predictors.shape)}")

    def compute(task: tuple[int, str]) -> float:
        index, name = task
        metric = METRICS[name]
        arguments = {need: needs[need] for need in metric.needs}
        try:
            return metric.function(labels, predictors[index], **arguments, **weighed)
        except ValueError as error:
            raise ValueError(f"{name} of predictor {index}: {error}") from None

    # numpy and polars let go of the interpreter lock in every call that takes long.
    tasks = [(index, name) for index in range(len(predictors)) for name in names]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        values = iter(list(pool.map(compute, tasks)))
    return [{name: next(values) for name in names} for _ in predictors]


def _auc(positive: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """AUC from checked input, by one sort: a row's key is its score's place in the order, then its label."""
    num_positive = int(np.count_nonzero(positive))
    num_negative = positive.size - num_positive
    if not num_positive or not num_negative:
        found = "positive" if num_positive else "negative"
        raise ValueError(
            f"labels: all {positive.size} rows are {found}; AUC needs at least one row of each class"
        )
    keys = _order(scores)
    keys <<= 1
    keys |= positive
    keys = _sorted(keys)
    # Equal scores have their negatives first, so every tie counts as a win here.
    rows = np.flatnonzero((keys & 1).astype(bool))
    wins = int(rows.sum()) - num_positive * (num_positive - 1) // 2
    # Where the last negative of a score is followed by the first of its positives, keys differ by the label.
    last_negative = np.flatnonzero((keys[1:] ^ keys[:-1]) == 1)
    tied = keys[last_negative]
    negatives = last_negative + 1 - np.searchsorted(keys, tied, "left")
    positives = np.searchsorted(keys, tied | np.uint64(1), "right") - (last_negative + 1)
    ties = int((negatives * positives).sum())
    return (2 * wins - ties) / (2 * num_positive * num_negative)


def _sorted(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """By polars where it is there: on some CPUs numpy's AVX-512 sort takes four times as long.

    `benchmarks/evaluate.py` has the figures. To import polars takes as long as numpy for millions of keys.
    """
    if len(keys) < _MANY:
        return np.sort(keys)
    try:
        import polars as pl
    except ImportError:
        return np.sort(keys)
    return pl.Series(keys).sort(multithreaded=False).to_numpy()


def _order(scores: NDArray[np.floating]) -> NDArray[np.uint64]:
    """Numbers under 2^63 that compare as the scores do. Equal scores, -0.0 and 0.0 too, have one number."""
    if scores.dtype == np.float64:
        return np.unique(scores, return_inverse=True)[1].astype(np.uint64)
    bits = (scores + np.float32(0)).view(np.int32)  # the sum turns -0.0 into 0.0
    # Negative floats order backwards as integers: flip all their bits, and the sign bit of the others.
    flip = (bits >> 31).view(np.uint32) | np.uint32(1 << 31)
    return (bits.view(np.uint32) ^ flip).astype(np.uint64)


def _weighted_auc(
    positive: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.float64]
) -> float:
    """`_auc` by weights: the pairs of a positive and a negative row weigh the product of theirs."""
    group = np.zeros(positive.size, np.int64)
    wins, pairs = _weighted_pairs(positive, scores, group, weights)
    if not pairs[0] > 0:
        raise ValueError(
            f"labels: the {positive.size} rows have no weight in one of the classes; AUC needs some in each"
        )
    return float(wins[0] / pairs[0])


def _weighted_gauc(
    positive: NDArray[np.bool_],
    scores: NDArray[np.floating],
    group: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> float:
    wins, pairs = _weighted_pairs(positive, scores, group, weights)
    if not (both := pairs > 0).any():
        raise ValueError(f"groups: none of {len(pairs)} has weight in both classes; GAUC needs one")
    heavy = np.bincount(group, weights=weights)[both]
    return math.fsum(wins[both] / pairs[both] * heavy) / math.fsum(heavy)


def _weighted_pairs(
    positive: NDArray[np.bool_],
    scores: NDArray[np.floating],
    group: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each group the weight of the pairs ranked rightly, ties counted half, and of all its pairs.

    Both in a unit of the group's own.
    """
    rank = _order(scores)
    order = np.lexsort((rank, group))
    positive, group, rank, weights = positive[order], group[order], rank[order], weights[order]
    starts = np.flatnonzero((np.diff(group, prepend=-1) != 0) | (np.diff(rank, prepend=rank[0]) != 0))
    clicked = np.add.reduceat(weights * positive, starts)
    other = np.add.reduceat(weights * ~positive, starts)
    of_block = group[starts]
    # All groups share a running sum, in which a heavy one would drown the others. A power of two is exact.
    exponents = np.frexp(np.bincount(of_block, weights=other))[1]
    other = np.ldexp(other, -exponents[of_block])
    first = np.searchsorted(of_block, of_block)
    below = np.cumsum(other) - other
    below -= below[first]
    wins = np.bincount(of_block, weights=clicked * (below + other / 2))
    pairs = np.bincount(of_block, weights=clicked)
    pairs = pairs * np.bincount(of_block, weights=other)
    return np.asarray(wins, np.float64), np.asarray(pairs, np.float64)


def _logloss(
    positive: NDArray[np.bool_], logits: NDArray[np.floating], weights: NDArray[np.float64] | None = None
) -> float:
    """Mean of softplus(-logit) over positives and softplus(logit) over negatives, from checked input."""
    sums = []
    for start in range(0, positive.size, _BLOCK_ROWS):
        block = logits[start : start + _BLOCK_ROWS]
        wrong = np.where(positive[start : start + _BLOCK_ROWS], -block, block).astype(np.float64)
        found = np.maximum(wrong, 0.0) + np.log1p(np.exp(-np.abs(wrong)))
        sums.append(float(np.sum(found if weights is None else weights[start : start + _BLOCK_ROWS] * found)))
    return math.fsum(sums) / (positive.size if weights is None else math.fsum(weights))


def probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logistic function in float64, right to the last digits also where p is next to 0."""
    return np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))


def _weights(weights: ArrayLike | None, positive: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Checked weights [N]; None where all rows count alike."""
    if weights is None:
        return None
    found = np.asarray(weights, np.float64)
    if found.shape != positive.shape:
        raise ValueError(f"weights: expected shape [{positive.size}], got {list(found.shape)}")
    bad = ~(np.isfinite(found) & (found >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"weights[{row}]: expected a finite number, 0 or more, got {found[row]}")
    if not found.any():
        raise ValueError(f"weights: all {found.size} are 0")
    return None if (found == found[0]).all() else found


def _checked(
    labels: ArrayLike, scores: ArrayLike, name: str
) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    """Positive mask [N] and scores [N] in float32 or float64, or a ValueError saying what is wrong where."""
    targets, values = np.asarray(labels), np.asarray(scores)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)  # integers and half floats: exact, and sorted fast
    if targets.ndim != 1 or targets.shape != values.shape:
        raise ValueError(
            f"labels and {name}: expected one shape [N], got {list(targets.shape)} and {list(values.shape)}"
        )
    if not targets.size:
        raise ValueError(f"labels and {name}: no rows to evaluate")
    positive = targets == 1
    valid = positive | (targets == 0)
    if not valid.all():
        row = int(np.argmin(valid))
        raise ValueError(f"labels[{row}]: expected 0 or 1, got {targets[row]}")
    missing = np.isnan(values)
    if missing.any():
        row = int(np.argmax(missing))
        raise ValueError(
            f"{name}[{row}] is NaN ({int(missing.sum())} of {values.size} are): the predictor diverged"
        )
    return positive, values
