"""Intervals and tests against pairs of rows one by one, and against what repeated draws do."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from ektf_jax import significance


def rows(count=60, seed=0, ties=False):
    """Labels, and two predictors that are right about some of the same rows."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    truth = labels + rng.normal(size=count)
    scores = np.stack([truth + rng.normal(size=count), truth + 1.5 * rng.normal(size=count)])
    return labels, (np.round(scores) if ties else scores).astype(np.float32)


def covariance_by_pairs(labels, scores):
    """DeLong's definition: every positive beside every negative."""
    wins = [
        (row[labels == 1][:, None] > row[labels == 0]) + 0.5 * (row[labels == 1][:, None] == row[labels == 0])
        for row in scores
    ]
    of_positives = np.cov([one.mean(axis=1) for one in wins]) / (labels == 1).sum()
    return of_positives + np.cov([one.mean(axis=0) for one in wins]) / (labels == 0).sum()


@pytest.mark.parametrize("ties", [False, True])
def test_the_covariance_is_that_of_all_pairs(ties):
    labels, scores = rows(ties=ties)
    np.testing.assert_allclose(
        significance.auc_covariance(labels, scores), covariance_by_pairs(labels, scores), rtol=1e-12
    )


@pytest.mark.parametrize("ties", [False, True])
def test_an_auc_and_a_difference_have_their_normal_intervals_and_p(ties):
    labels, scores = rows(ties=ties)
    covariance = covariance_by_pairs(labels, scores)
    aucs = [roc_auc_score(labels, row) for row in scores]
    half = 1.959963984540054 * np.sqrt(covariance[0, 0])
    np.testing.assert_allclose(
        significance.auc(labels, scores[0])[:3], [aucs[0], aucs[0] - half, aucs[0] + half]
    )
    spread = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found = significance.auc_difference(labels, *scores)
    difference = aucs[0] - aucs[1]
    np.testing.assert_allclose(found.value, difference)
    np.testing.assert_allclose(found.high - found.low, 2 * 1.959963984540054 * spread)
    np.testing.assert_allclose(found.p, 2 * stats.norm.sf(abs(difference) / spread))
    back = significance.auc_difference(labels, *scores[::-1])
    np.testing.assert_allclose(back, [-found.value, -found.high, -found.low, found.p])


@pytest.mark.parametrize("count", [8, 60])
def test_both_predictors_and_their_difference_are_as_each_by_itself(count):
    """Of few rows an interval would go beyond what an AUC can be."""
    labels, (one, other) = rows(count)
    for several, alone, difference in (
        (significance.aucs, significance.auc, significance.auc_difference),
        (significance.loglosses, significance.logloss, significance.logloss_difference),
    ):
        for confidence in (0.5, 0.999):
            expected = [alone(labels, scores, confidence=confidence) for scores in (one, other)]
            expected.append(difference(labels, one, other, confidence=confidence))
            found = several(labels, one, other, confidence=confidence)
            np.testing.assert_allclose(
                [estimate[:3] for estimate in found], [estimate[:3] for estimate in expected], rtol=1e-12
            )
            assert found[2].p == expected[2].p


def test_an_interval_of_an_auc_ends_where_an_auc_does():
    labels = np.array([0, 1, 0, 1, 0, 1])
    for scores, ends in (([1.0, 6, 2, 5, 4, 3], 1.0), ([6.0, 1, 5, 2, 3, 4], 0.0)):
        found = significance.auc(labels, np.array(scores))
        assert ends in (found.low, found.high)
        assert 0 <= found.low < found.value < found.high <= 1


def test_predictors_without_a_difference_have_p_near_uniform():
    """Two noises of one truth are equally good: p is under .1 in a tenth of the draws."""
    small = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 200)
        truth = labels + rng.normal(size=200)
        found = significance.auc_difference(labels, *(truth + rng.normal(size=(2, 200))))
        assert found.p is not None
        small += found.p < 0.1
    assert 20 < small < 62  # 40 expected, 6 standard deviation: 3.5 to either side


def test_a_predictor_beside_itself_has_no_difference():
    labels, (scores, _) = rows()
    assert significance.auc_difference(labels, scores, scores) == (0.0, 0.0, 0.0, 1.0)
    assert significance.logloss_difference(labels, scores, scores) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(("count", "repeats"), [(300, 4000), (20_000, 1500)])
def test_the_bootstrap_is_as_wide_as_the_mean_s_standard_error(count, repeats):
    """With fewer rows than groups and with more."""
    labels, scores = rows(count)
    z = scores.astype(np.float64)
    losses = np.logaddexp(0, np.where(labels == 1, -z, z))
    found = significance.logloss(labels, scores[0], repeats=repeats)
    assert found.value == pytest.approx(log_loss(labels, 1 / (1 + np.exp(-z[0]))), rel=1e-12)
    half = 1.96 * losses[0].std() / np.sqrt(count)
    np.testing.assert_allclose(
        [found.low, found.high], [found.value - half, found.value + half], atol=0.12 * half
    )
    difference = losses[0] - losses[1]
    found = significance.logloss_difference(labels, *scores, repeats=repeats)
    half = 1.96 * difference.std() / np.sqrt(count)
    assert found.value == pytest.approx(difference.mean(), rel=1e-9)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    assert found.p == 2 / (repeats + 1)  # logits that are twice too large cost many deviations


def test_rows_in_order_of_their_labels_change_nothing():
    labels, scores = rows(30_000)
    order = np.argsort(labels, kind="stable")
    plain = significance.logloss(labels, scores[0])
    ordered = significance.logloss(labels[order], scores[0][order])
    assert ordered.high - ordered.low == pytest.approx(plain.high - plain.low, rel=0.15)


def test_one_class_is_refused():
    for of in (significance.auc, significance.logloss):
        with pytest.raises(ValueError, match="labels"):
            of(np.array([2, 0, 1]), np.arange(3.0))
    with pytest.raises(ValueError, match="at least one row of each class"):
        significance.auc(np.ones(3), np.arange(3.0))


def test_a_class_of_one_row_adds_no_spread():
    labels, scores = np.array([1, 0, 0, 0]), np.array([1.5, 0.0, 2.0, 1.0])
    wins = np.array([1.0, 0.0, 1.0])
    np.testing.assert_allclose(significance.auc_covariance(labels, scores[None]), [[wins.var(ddof=1) / 3]])
