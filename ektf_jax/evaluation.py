"""AUC and logloss of every student and of the ensemble, exact, in numpy.

Counts are integers and sums are float64 whatever the dtype of the scores, so neither metric drifts with
the number of rows.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive row scores above a negative one, ties counted half.

    labels [N] in {0, 1}; scores [N], any float dtype: logits or probabilities, only their order matters.
    Raises ValueError for NaN scores, labels outside {0, 1}, or one class only.
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
    """AUC and logloss of P predictors over the same rows.

    labels [N] in {0, 1}; logits [P, N], say the K students and their ensemble. Returns one
    {"auc", "logloss"} per predictor, in their order. Raises ValueError as `auc` does.
    """
    predictors = np.asarray(logits)
    if predictors.ndim != 2:
        raise ValueError(f"logits: expected shape [P, N], got {list(predictors.shape)}")
    results = []
    for index, row in enumerate(predictors):
        positive, values = _checked(labels, row, f"logits[{index}]")
        results.append({"auc": _auc(positive, values), "logloss": _logloss(positive, values)})
    return results


def _auc(positive: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """AUC from checked input: rank every positive among the sorted negatives."""
    above = np.sort(scores[positive])
    below = np.sort(scores[~positive])
    if not above.size or not below.size:
        found = "positive" if above.size else "negative"
        raise ValueError(
            f"labels: all {positive.size} rows are {found}; AUC needs at least one row of each class"
        )
    # Sorting the positives as well is not needed for the count, but it makes the searches walk memory in
    # order, which is several times faster. Comparing floats, not bits, makes -0.0 equal 0.0.
    twice_wins = np.searchsorted(below, above, "left").sum() + np.searchsorted(below, above, "right").sum()
    return int(twice_wins) / (2 * above.size * below.size)


def _logloss(positive: NDArray[np.bool_], logits: NDArray[np.floating]) -> float:
    """Mean of softplus(-logit) over positives and softplus(logit) over negatives, from checked input."""
    wrong = np.where(positive, -logits, logits).astype(np.float64)
    return float(np.mean(np.maximum(wrong, 0.0) + np.log1p(np.exp(-np.abs(wrong)))))


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
