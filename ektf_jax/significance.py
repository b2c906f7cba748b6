"""How sure a metric is, and a difference of two predictors on the same rows.

AUC by DeLong's covariance: DeLong, DeLong and Clarke-Pearson, Comparing the Areas under Two or More
Correlated ROC Curves (Biometrics 1988). Logloss by a paired bootstrap. Both hold the model fixed and vary the
rows: what another seed of training would give is another question, and takes runs of several seeds.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ektf_jax import metrics

# A bootstrap draws groups of rows: as good as rows for a mean, and as fast for billions as for thousands.
_GROUPS = 10_000


class Estimate(NamedTuple):
    """A value and its confidence interval; of a difference, p is that of 0, two-sided."""

    value: float
    low: float
    high: float
    p: float | None = None


def auc(labels: ArrayLike, scores: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """AUC of scores [N] with DeLong's interval. Raises ValueError as `metrics.auc` does."""
    value = metrics.auc(labels, scores)
    return _auc(value, auc_covariance(labels, np.asarray(scores)[None])[0, 0], confidence)


def auc_difference(
    labels: ArrayLike, one: ArrayLike, other: ArrayLike, *, confidence: float = 0.95
) -> Estimate:
    """AUC of `one` less that of `other`, both [N], with DeLong's interval and p.

    Raises ValueError as `metrics.auc` does.
    """
    return aucs(labels, one, other, confidence=confidence)[2]


def aucs(
    labels: ArrayLike, one: ArrayLike, other: ArrayLike, *, confidence: float = 0.95
) -> tuple[Estimate, Estimate, Estimate]:
    """`auc` of `one` and of `other`, both [N], and `auc_difference`, in little more than the time of it."""
    first, second = metrics.auc(labels, one), metrics.auc(labels, other)
    covariance = auc_covariance(labels, np.stack([np.asarray(one), np.asarray(other)]))
    value = first - second
    variance = max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0)
    p = math.erfc(abs(value) / math.sqrt(2 * variance)) if variance else float(value == 0)
    return (
        _auc(first, covariance[0, 0], confidence),
        _auc(second, covariance[1, 1], confidence),
        Estimate(value, *_around(value, variance, confidence), p),
    )


def auc_covariance(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """DeLong's covariance [P, P] of the AUCs of scores [P, N] on the same rows.

    A row's share in the AUC is how much of the other class it is right about, ties counted half; the
    covariance is that of these shares, in each class over its rows. They come from one sort of each
    predictor, in O(P N log N), as Sun and Xu have it (IEEE Signal Processing Letters 2014). 0 for a class of
    one row.
    """
    positive = np.asarray(labels) == 1
    covariance = np.zeros((len(np.asarray(scores)),) * 2)
    # The one sort of each.
    places = [np.unique(row, return_inverse=True)[1] for row in np.asarray(scores)]
    for of_class in (positive, ~positive):
        rows, others = int(of_class.sum()), int((~of_class).sum())
        shares = np.stack([_below(place[~of_class], place[of_class]) / others for place in places])
        if rows > 1:
            covariance += np.cov(shares).reshape(covariance.shape) / rows
    return covariance


def logloss(
    labels: ArrayLike, logits: ArrayLike, *, confidence: float = 0.95, repeats: int = 1000, seed: int = 0
) -> Estimate:
    """Logloss of logits [N] with a bootstrap's interval. Raises ValueError as `metrics.logloss` does."""
    value = metrics.logloss(labels, logits)
    return _drawn(value, _means(_cross_entropy(labels, logits)[None], repeats, seed)[0], confidence)


def logloss_difference(
    labels: ArrayLike,
    one: ArrayLike,
    other: ArrayLike,
    *,
    confidence: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Logloss of `one` less that of `other`, both logits [N], by a bootstrap of the same rows for both.

    p is twice the share of repeats on the other side of 0, at least 2 / (repeats + 1). Raises ValueError as
    `metrics.logloss` does.
    """
    return loglosses(labels, one, other, confidence=confidence, repeats=repeats, seed=seed)[2]


def loglosses(
    labels: ArrayLike,
    one: ArrayLike,
    other: ArrayLike,
    *,
    confidence: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> tuple[Estimate, Estimate, Estimate]:
    """`logloss` of `one` and of `other`, both logits [N], and `logloss_difference`, of the same draws."""
    first, second = metrics.logloss(labels, one), metrics.logloss(labels, other)
    losses = np.stack([_cross_entropy(labels, one), _cross_entropy(labels, other)])
    drawn = _means(losses, repeats, seed)
    difference = drawn[0] - drawn[1]
    beyond = min(np.count_nonzero(difference <= 0), np.count_nonzero(difference >= 0))
    return (
        _drawn(first, drawn[0], confidence),
        _drawn(second, drawn[1], confidence),
        _drawn(first - second, difference, confidence)._replace(p=min(1.0, 2 * (beyond + 1) / (repeats + 1))),
    )


def _cross_entropy(labels: ArrayLike, logits: ArrayLike) -> NDArray[np.float64]:
    z = np.asarray(logits).astype(np.float64)
    return np.logaddexp(0.0, np.where(np.asarray(labels) == 1, -z, z))


def _means(values: NDArray[np.float64], repeats: int, seed: int) -> NDArray[np.float64]:
    """Means [P, repeats] of bootstrap samples of values [P, N], the same rows for all P."""
    groups = min(values.shape[1], _GROUPS)
    rng = np.random.default_rng(seed)
    # Rows may be sorted, by time say: every group has rows of all places, so that they are alike.
    place = np.arange(values.shape[1]) % groups
    sums, sizes = np.stack([np.bincount(place, row) for row in values]), np.bincount(place)
    drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=repeats)
    return sums @ drawn.T / (drawn @ sizes)


def _drawn(value: float, drawn: NDArray[np.float64], confidence: float) -> Estimate:
    """A value, and the interval of what was drawn."""
    low, high = np.quantile(drawn, _tails(confidence))
    return Estimate(value, float(low), float(high))


def _auc(value: float, variance: float, confidence: float) -> Estimate:
    low, high = _around(value, variance, confidence)
    return Estimate(value, max(low, 0.0), min(high, 1.0))


def _below(others: NDArray[np.intp], places: NDArray[np.intp]) -> NDArray[np.float64]:
    """How many of the others are below each of these places among all distinct scores, ties counted half."""
    counts = np.bincount(others, minlength=int(places.max(initial=-1)) + 1)
    below: NDArray[np.float64] = (np.cumsum(counts) - counts / 2)[places]
    return below


def _around(value: float, variance: float, confidence: float) -> tuple[float, float]:
    half = NormalDist().inv_cdf(_tails(confidence)[1]) * math.sqrt(variance)
    return value - half, value + half


def _tails(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
