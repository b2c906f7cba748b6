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
    (variance,) = np.diag(auc_covariance(labels, np.asarray(scores)[None]))
    low, high = _around(value, variance, confidence)
    return Estimate(value, max(low, 0.0), min(high, 1.0))


def auc_difference(
    labels: ArrayLike, one: ArrayLike, other: ArrayLike, *, confidence: float = 0.95
) -> Estimate:
    """AUC of `one` less that of `other`, both [N], with DeLong's interval and p.

    Raises ValueError as `metrics.auc` does.
    """
    value = metrics.auc(labels, one) - metrics.auc(labels, other)
    covariance = auc_covariance(labels, np.stack([np.asarray(one), np.asarray(other)]))
    variance = max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0)
    low, high = _around(value, variance, confidence)
    if variance == 0:
        return Estimate(value, low, high, 1.0 if value == 0 else 0.0)
    return Estimate(value, low, high, math.erfc(abs(value) / math.sqrt(2 * variance)))


def auc_covariance(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """DeLong's covariance [P, P] of the AUCs of scores [P, N] on the same rows.

    A row's share in the AUC is how much of the other class it is right about, ties counted half; the
    covariance is that of these shares, in each class over its rows. They come from ranks, in O(P N log N) as
    Sun and Xu have it (IEEE Signal Processing Letters 2014). 0 for a class of one row.
    """
    positive = np.asarray(labels) == 1
    covariance = np.zeros((len(np.asarray(scores)),) * 2)
    # The one sort of each: a class has its rows in the same order.
    places = [np.unique(row, return_inverse=True)[1] for row in np.asarray(scores)]
    ranks = [_midranks(place) for place in places]
    for of_class in (positive, ~positive):
        rows, others = int(of_class.sum()), int((~of_class).sum())
        shares = np.stack(
            [
                (rank[of_class] - _midranks(place[of_class])) / others
                for rank, place in zip(ranks, places, strict=True)
            ]
        )
        if rows > 1:
            covariance += np.cov(shares).reshape(covariance.shape) / rows
    return covariance


def logloss(
    labels: ArrayLike, logits: ArrayLike, *, confidence: float = 0.95, repeats: int = 1000, seed: int = 0
) -> Estimate:
    """Logloss of logits [N] with a bootstrap's interval. Raises ValueError as `metrics.logloss` does."""
    value = metrics.logloss(labels, logits)
    low, high = np.quantile(_means(_cross_entropy(labels, logits), repeats, seed), _tails(confidence))
    return Estimate(value, float(low), float(high))


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
    value = metrics.logloss(labels, one) - metrics.logloss(labels, other)
    drawn = _means(_cross_entropy(labels, one) - _cross_entropy(labels, other), repeats, seed)
    low, high = np.quantile(drawn, _tails(confidence))
    beyond = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    return Estimate(value, float(low), float(high), min(1.0, 2 * (beyond + 1) / (repeats + 1)))


def _cross_entropy(labels: ArrayLike, logits: ArrayLike) -> NDArray[np.float64]:
    z = np.asarray(logits).astype(np.float64)
    return np.logaddexp(0.0, np.where(np.asarray(labels) == 1, -z, z))


def _means(values: NDArray[np.float64], repeats: int, seed: int) -> NDArray[np.float64]:
    """Means of bootstrap samples of values [N]."""
    groups = min(len(values), _GROUPS)
    rng = np.random.default_rng(seed)
    # Rows may be sorted, by time say: every group has rows of all places, so that they are alike.
    place = np.arange(len(values)) % groups
    sums, sizes = np.bincount(place, values), np.bincount(place)
    drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=repeats)
    return (drawn @ sums) / (drawn @ sizes)


def _midranks(places: NDArray[np.intp]) -> NDArray[np.float64]:
    """Ranks from 1 of values, which are given by their places among the distinct ones; equal ones share.

    `scipy.stats` has them too, and takes seconds to import.
    """
    counts = np.bincount(places)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def _around(value: float, variance: float, confidence: float) -> tuple[float, float]:
    half = NormalDist().inv_cdf(_tails(confidence)[1]) * math.sqrt(variance)
    return value - half, value + half


def _tails(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
