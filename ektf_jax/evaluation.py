"""AUC and logloss of every student and of the ensemble, exact: integer counts and float64 sums.

Neither metric drifts with the number of rows, whatever the dtype of the scores.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCK_ROWS = 1 << 14  # of the logloss: float64 temporaries stay in the cache


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive row scores above a negative one, ties counted half.

    labels [N] in {0, 1}; scores [N], any float dtype: logits or probabilities, only their order matters.
    float32 is fastest. Raises ValueError for NaN scores, labels outside {0, 1}, or one class only.
    """
    positive, values = _checked(labels, scores, "scores")
    return _auc(positive, values)


def logloss(labels: ArrayLike, logits: ArrayLike) -> float:
    """Mean binary cross-entropy in nats, straight from logits, so nothing has to be clipped.

    labels [N] in {0, 1}; logits [N]. Raises ValueError for NaN logits, labels outside {0, 1}, or no rows.
    """
    positive, values = _checked(labels, logits, "logits")
    return _logloss(positive, values)


def metrics(labels: ArrayLike, logits: ArrayLike) -> list[dict[str, float]]:
    """AUC and logloss of P predictors over the same rows, as many at a time as there are cores.

    labels [N] in {0, 1}; logits [P, N], say the K students and their ensemble. Returns one
    {"auc", "logloss"} per predictor, in their order. Raises ValueError as `auc` does.
    """
    predictors = np.asarray(logits)
    if predictors.ndim != 2:
        raise ValueError(f"logits: expected shape [P, N], got {list(predictors.shape)}")

    def evaluate(index: int) -> dict[str, float]:
        positive, values = _checked(labels, predictors[index], f"logits[{index}]")
        return {"auc": _auc(positive, values), "logloss": _logloss(positive, values)}

    # numpy and polars let go of the interpreter lock in every call that takes long.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(evaluate, range(len(predictors))))


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

    `benchmarks/evaluate.py` has the figures.
    """
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


def _logloss(positive: NDArray[np.bool_], logits: NDArray[np.floating]) -> float:
    """Mean of softplus(-logit) over positives and softplus(logit) over negatives, from checked input."""
    sums = []
    for start in range(0, positive.size, _BLOCK_ROWS):
        block = logits[start : start + _BLOCK_ROWS]
        wrong = np.where(positive[start : start + _BLOCK_ROWS], -block, block).astype(np.float64)
        sums.append(float(np.sum(np.maximum(wrong, 0.0) + np.log1p(np.exp(-np.abs(wrong))))))
    return math.fsum(sums) / positive.size


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
