"""Metrics against scikit-learn and plain loops, exact counting, and the inputs they refuse."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from ektf_jax import metrics
from ektf_jax.errors import InputError


def sample(seed: int, rows: int, distinct: int, scale: float, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] with both classes and scores [N] taking at most `distinct` values."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < rng.random()).astype(np.float32)
    labels[:2] = [0, 1]
    levels = (scale * rng.standard_normal(distinct)).astype(dtype)
    return rng.permutation(labels), rng.choice(levels, rows)


samples = {
    "seed": st.integers(0, 2**32 - 1),
    "rows": st.integers(2, 2000),
    "distinct": st.sampled_from([1, 2, 7, 100, 100_000]),
    "dtype": st.sampled_from([np.float32, np.float64]),
}


@given(scale=st.sampled_from([1e-30, 1.0, 1e30]), **samples)
@settings(deadline=None)
def test_auc_agrees_with_scikit_learn(seed, rows, distinct, scale, dtype):
    labels, scores = sample(seed, rows, distinct, scale, dtype)
    assert metrics.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def plain_twice_wins(labels, scores):
    """Twice the pairs that a positive wins, ties once: each positive searched among the sorted negatives."""
    positive = labels == 1
    below = np.sort(scores[~positive])
    return sum(int(np.searchsorted(below, scores[positive], side).sum()) for side in ("left", "right"))


@given(scale=st.sampled_from([1e-45, 1e-30, 1.0, 1e30]), zeros=st.booleans(), **samples)
@settings(deadline=None)
def test_auc_is_the_plain_count_to_the_last_pair(seed, rows, distinct, scale, dtype, zeros):
    labels, scores = sample(seed, rows, distinct, scale, dtype)
    if zeros:
        special = np.array([0.0, -0.0, np.inf, -np.inf, np.finfo(dtype).tiny, -np.finfo(dtype).max], dtype)
        rng = np.random.default_rng(seed)
        scores = np.where(rng.random(rows) < 0.5, rng.choice(special, rows), scores)
    pairs = int((labels == 1).sum()) * int((labels == 0).sum())
    assert metrics.auc(labels, scores) == plain_twice_wins(labels, scores) / (2 * pairs)


@given(**samples)
@settings(deadline=None)
def test_logloss_agrees_with_scikit_learn(seed, rows, distinct, dtype):
    labels, logits = sample(seed, rows, distinct, 3.0, dtype)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert metrics.logloss(labels, logits) == pytest.approx(log_loss(labels, probabilities), abs=1e-9)


@given(scale=st.sampled_from([1e2, 1e4, 1e30]), **samples)
@settings(deadline=None)
def test_logloss_of_extreme_logits(seed, rows, distinct, scale, dtype):
    labels, logits = sample(seed, rows, distinct, scale, dtype)
    terms = [
        max(z, 0.0) - z * y + math.log1p(math.exp(-abs(z)))
        for y, z in zip(labels.tolist(), logits.astype(np.float64).tolist(), strict=True)
    ]
    assert metrics.logloss(labels, logits) == pytest.approx(math.fsum(terms) / rows, rel=1e-9)


def test_logloss_of_confident_logits_is_not_clipped():
    assert metrics.logloss([1.0, 0.0], np.array([-800.0, 800.0])) == 800.0
    assert metrics.logloss([1.0], np.array([100.0])) == pytest.approx(math.exp(-100), rel=1e-12)
    assert metrics.logloss([1.0, 0.0], np.array([np.inf, -np.inf])) == 0.0
    assert metrics.logloss([0.0], np.array([np.inf])) == np.inf


def test_auc_of_known_orders():
    labels = np.array([0, 0, 1, 1])
    assert metrics.auc(labels, np.array([1.0, 2.0, 3.0, 4.0])) == 1.0
    assert metrics.auc(labels, np.array([4.0, 3.0, 2.0, 1.0])) == 0.0
    assert metrics.auc(labels, np.zeros(4)) == 0.5
    assert metrics.auc(labels, np.array([-0.0, 0.0, 0.0, -0.0], np.float32)) == 0.5
    assert metrics.auc(labels, np.array([-np.inf, 0.0, 0.0, np.inf])) == 0.875


def test_auc_counts_exactly_beyond_float32():
    # 1.5e5 x 1.5e5 pairs: past 2**24, where a float32 sum, or ranks kept in float32, would go wrong.
    size = 150_000
    labels = np.repeat([0, 1], size)
    scores = np.concatenate([np.arange(size), np.arange(size)]).astype(np.float32)
    wins = size * (size - 1) / 2 + size / 2
    assert metrics.auc(labels, scores) == wins / size**2


def test_neighbouring_float64_scores_are_not_ties():
    assert metrics.auc([0, 1], np.array([0.5, np.nextafter(0.5, 1)])) == 1.0


@pytest.mark.parametrize("dtype", [bool, np.int32, np.int64, np.float32, np.float64])
def test_label_dtypes(dtype):
    labels = np.array([0, 1, 1, 0]).astype(dtype)
    logits = np.array([0.5, 1.0, -1.0, 0.25])
    assert metrics.auc(labels, logits) == 0.5
    assert metrics.logloss(labels, logits) == pytest.approx(np.log1p(np.exp([0.5, -1.0, 1.0, 0.25])).mean())


def test_float16_scores():
    assert metrics.auc([0, 1, 1], np.array([0.1, 0.2, 0.1], np.float16)) == 0.75


def test_evaluate_is_auc_and_logloss_of_each_row():
    labels, _ = sample(0, 500, 1, 1.0, np.float32)
    logits = np.random.default_rng(1).standard_normal((4, 500)).astype(np.float32)
    expected = [{"auc": metrics.auc(labels, z), "logloss": metrics.logloss(labels, z)} for z in logits]
    found = metrics.evaluate(labels, logits)
    assert found == expected
    assert all(type(value) is float for row in found for value in row.values())


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1, 1], [0.1, np.nan, np.nan], r"scores\[1\] is NaN \(2 of 3"),
        ([0, 1, 2], [0.1, 0.2, 0.3], r"labels\[2\]: expected 0 or 1, got 2"),
        ([0, np.nan, 1], [0.1, 0.2, 0.3], r"labels\[1\]: expected 0 or 1, got nan"),
        ([1, 1], [0.1, 0.2], "all 2 rows are positive"),
        ([0, 0], [0.1, 0.2], "all 2 rows are negative"),
        ([], [], "no rows"),
        ([0, 1], [0.1, 0.2, 0.3], r"got \[2\] and \[3\]"),
        ([[0, 1]], [[0.1, 0.2]], r"expected one shape \[N\]"),
    ],
)
def test_auc_refuses(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        metrics.auc(np.array(labels), np.array(scores))


def test_evaluate_names_a_metric_that_is_none_and_what_one_needs():
    labels, logits = np.array([0, 1]), np.zeros((1, 2))
    with pytest.raises(ValueError, match="'f1' is unknown: use one of auc, logloss"):
        metrics.evaluate(labels, logits, ["auc", "f1"])
    with pytest.raises(ValueError, match="gauc needs groups"):
        metrics.evaluate(labels, logits, ["gauc"])


def test_logloss_and_evaluate_refuse():
    with pytest.raises(ValueError, match=r"logits\[1\] is NaN"):
        metrics.logloss(np.array([1, 1]), np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match=r"auc of predictor 1: scores\[0\] is NaN"):
        metrics.evaluate(np.array([0, 1]), np.array([[0.0, 1.0], [np.nan, 1.0]]))
    with pytest.raises(ValueError, match=r"\[P, N\]"):
        metrics.evaluate(np.array([0, 1]), np.array([0.0, 1.0]))


def grouped(seed: int, rows: int, distinct: int, dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, logits = sample(seed, rows, distinct, 2.0, dtype)
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, rng.integers(1, 40), rows)
    groups[:2] = 0  # one group has both classes
    labels[:2] = [0, 1]
    return labels, logits, groups


@given(**samples)
@settings(deadline=None)
def test_gauc_is_the_mean_of_scikit_learns_auc_within_groups(seed, rows, distinct, dtype):
    labels, logits, groups = grouped(seed, rows, distinct, dtype)
    total = weight = 0.0
    for group in np.unique(groups):
        of_group = groups == group
        if len(np.unique(labels[of_group])) == 2:
            total += of_group.sum() * roc_auc_score(labels[of_group], logits[of_group])
            weight += of_group.sum()
    found = metrics.gauc(labels, logits, groups)
    assert found == pytest.approx(total / weight, abs=1e-12)
    shuffled = np.random.default_rng(seed).permutation(rows)
    assert metrics.gauc(labels[shuffled], logits[shuffled], groups[shuffled]) == found


def test_gauc_of_one_group_is_auc():
    labels, logits = sample(3, 500, 20, 1.0, np.float32)
    assert metrics.gauc(labels, logits, np.full(500, "all")) == metrics.auc(labels, logits)


@given(**samples)
@settings(deadline=None)
def test_calibration_is_predicted_over_observed_clicks(seed, rows, distinct, dtype):
    labels, logits = sample(seed, rows, distinct, 3.0, dtype)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert metrics.calibration(labels, logits) == pytest.approx(
        probabilities.mean() / labels.mean(dtype=np.float64), rel=1e-9
    )


@given(seed=samples["seed"], rows=samples["rows"], dtype=samples["dtype"])
@settings(deadline=None)
def test_calibration_error_is_the_plain_mean_over_equal_bins(seed, rows, dtype):
    labels, logits = sample(seed, rows, 100_000, 2.0, dtype)
    logits = np.unique(logits)  # no ties: the plain bins are unique
    labels = labels[: len(logits)]
    expected = 0.0
    for part in np.array_split(np.argsort(logits), 15):
        if len(part):
            gap = 1 / (1 + np.exp(-logits[part].astype(np.float64))) - labels[part].astype(np.float64)
            expected += abs(gap.sum()) / len(logits)
    assert metrics.calibration_error(labels, logits) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_does_not_see_the_order_of_rows_that_tie():
    """Where some bins click less than they should, some more: else the order never counts."""
    rng = np.random.default_rng(5)
    labels, logits = rng.integers(0, 2, 1000), rng.integers(-3, 4, 1000).astype(np.float32)
    p, rates = metrics.probabilities(logits), np.zeros(1000)
    for logit in range(-3, 4):
        rates[logits == logit] = labels[logits == logit].mean()
    parts = np.array_split(np.argsort(logits), 15)
    expected = sum(abs(math.fsum((p - rates)[part])) for part in parts) / 1000
    assert metrics.calibration_error(labels, logits) == pytest.approx(expected, abs=1e-15)
    for _ in range(5):
        rows = rng.permutation(1000)
        assert metrics.calibration_error(labels[rows], logits[rows]) == pytest.approx(expected, abs=1e-15)
    # One logit of the true rate is right, whatever bins it falls into.
    rate = labels.mean()
    assert metrics.calibration_error(labels, np.full(1000, np.log(rate / (1 - rate)))) < 1e-7


def test_every_metric_of_the_table_is_computed_by_name():
    labels, logits, groups = grouped(7, 300, 50, np.float32)
    both = np.stack([logits, -logits])
    found = metrics.evaluate(labels, both, list(metrics.METRICS), groups=groups)
    for row, z in zip(found, both, strict=True):
        for name, metric in metrics.METRICS.items():
            needs = {"groups": groups} if metric.needs else {}
            assert row[name] == metric.function(labels, z, **needs)
            assert metric.better in ("higher", "lower", "one")


def test_gauc_and_calibration_refuse():
    with pytest.raises(ValueError, match="none of 2 has rows of both classes"):
        metrics.gauc([0, 0, 1], [0.1, 0.2, 0.3], ["a", "a", "b"])
    with pytest.raises(ValueError, match=r"groups: expected shape \[2\]"):
        metrics.gauc([0, 1], [0.1, 0.2], ["a"])
    with pytest.raises(ValueError, match="none of 2 has weight in both classes"):
        metrics.gauc([0, 1, 1], [0.1, 0.2, 0.3], ["a", "a", "b"], weights=[1, 0, 2])
    with pytest.raises(ValueError, match="none of 2 rows is positive"):
        metrics.calibration([0, 0], [0.1, 0.2])
    with pytest.raises(ValueError, match="none of 2 rows is positive"):
        metrics.calibration([0, 1], [0.1, 0.2], weights=[1, 0])


def test_a_metric_touches_the_table_alone(monkeypatch):
    """What evaluations of a run compute by default is read from the table."""
    assert list(metrics.evaluate([0, 1], [[0.0, 1.0]])[0]) == ["auc", "logloss"]
    brier = metrics.Metric(lambda labels, logits: 0.25, "lower")
    monkeypatch.setitem(metrics.METRICS, "brier_score", brier)
    assert metrics.evaluate([0, 1], [[0.0, 1.0]])[0]["brier_score"] == 0.25


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(3))
def test_weights_against_scikit_learn(seed, dtype):
    """With ties, rows that weigh nothing, and groups, one of which has no weight in one of the classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 400)
    logits = (rng.integers(-20, 20, 400) / 4).astype(dtype)
    weights = rng.choice([0.0, 0.3, 1.0, 7.5], 400)
    groups = rng.integers(0, 9, 400)
    weights[(groups == 4) & (labels == 1)] = 0
    p = metrics.probabilities(logits)
    assert metrics.auc(labels, logits, weights=weights) == pytest.approx(
        roc_auc_score(labels, logits, sample_weight=weights), rel=1e-12
    )
    assert metrics.logloss(labels, logits, weights=weights) == pytest.approx(
        log_loss(labels, p, sample_weight=weights), rel=1e-12
    )
    aucs, heavy = [], []
    for group in set(groups.tolist()) - {4}:
        own = groups == group
        aucs.append(roc_auc_score(labels[own], logits[own], sample_weight=weights[own]))
        heavy.append(weights[own].sum())
    found = metrics.gauc(labels, logits, groups, weights=weights)
    assert found == pytest.approx(np.average(aucs, weights=heavy), rel=1e-12)
    calibration = np.average(p, weights=weights) / np.average(labels, weights=weights)
    assert metrics.calibration(labels, logits, weights=weights) == pytest.approx(calibration, rel=1e-12)


def test_no_group_is_too_light_for_gauc():
    """Groups weigh from 1e-20 to 1e20, and their clicks and other rows apart from each other."""
    rng = np.random.default_rng(0)
    groups, labels = rng.permutation(np.repeat(np.arange(40), 30)), rng.integers(0, 2, 1200)
    logits = rng.integers(-20, 20, 1200) / 4
    weights = rng.random(1200) * 10 ** rng.uniform(-20, 20, (2, 40))[labels, groups]
    assert metrics.gauc([0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], weights=[1e17, 1e-3, 1e-3, 1e17]) == 1.0
    own = [groups == group for group in range(40)]
    aucs = [metrics.auc(labels[rows], logits[rows], weights=weights[rows]) for rows in own]
    heavy = [math.fsum(weights[rows]) for rows in own]
    # As if all groups weighed alike, too: else the heaviest alone would count.
    for scale in (np.ones(40), 1 / np.array(heavy)):
        found = metrics.gauc(labels, logits, groups, weights=weights * scale[groups])
        assert found == pytest.approx(np.average(aucs, weights=heavy * scale), rel=1e-12)


def test_calibration_error_weighs_rows_in_bins():
    labels, logits = np.array([0, 1, 1, 0]), np.array([-1.0, -1.0, 0.5, 2.0])
    weights = np.array([1.0, 3.0, 2.0, 0.5])
    p = 1 / (1 + np.exp(-logits))
    first = abs(4 * p[0] - 3)  # two rows of one logit, the third click of them four
    second = abs(2 * p[2] + 0.5 * p[3] - 2)
    found = metrics.calibration_error(labels, logits, bins=2, weights=weights)
    assert found == pytest.approx((first + second) / 6.5, rel=1e-12)
    # A row that weighs nothing is in a bin, and counts for nothing there.
    light = metrics.calibration_error(labels, logits, bins=2, weights=weights * [1, 1, 1, 0])
    assert light == pytest.approx((first + abs(2 * p[2] - 2)) / 6, rel=1e-12)
    thrice = np.repeat(np.arange(4), 3)
    assert metrics.calibration_error(labels[thrice], logits[thrice], bins=2, weights=np.full(12, 0.7)) == (
        metrics.calibration_error(labels[thrice], logits[thrice], bins=2)
    )


@pytest.mark.parametrize("name", metrics.METRICS)
def test_equal_weights_are_none_to_the_bit(name):
    labels, logits = sample(0, 500, 100, 1.0, np.float32)
    needs = {"groups": np.arange(500) % 7} if metrics.METRICS[name].needs else {}
    expected = metrics.evaluate(labels, logits[None], [name], **needs)
    for weight in (1.0, 0.3):
        assert (
            metrics.evaluate(labels, logits[None], [name], weights=np.full(500, weight), **needs) == expected
        )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2, 3], r"weights: expected shape \[4\], got \[3\]"),
        ([1, 2, -3, 1], r"weights\[2\]: expected a finite number, 0 or more, got -3"),
        ([1, np.inf, 3, 1], r"weights\[1\]: expected a finite number"),
        ([0, 0, 0, 0], "weights: all 4 are 0"),
        ([0, 1, 0, 3], "the 4 rows have no weight in one of the classes; AUC needs some in each"),
    ],
)
def test_weights_that_are_none(weights, message):
    with pytest.raises(ValueError, match=message):
        metrics.auc([0, 1, 0, 1], np.arange(4.0), weights=weights)


def test_a_metric_that_takes_no_weights_says_so(monkeypatch):
    monkeypatch.setitem(metrics.METRICS, "own", metrics.Metric(lambda labels, logits: 0.0, "higher"))
    assert metrics.evaluate([0, 1], [[0.0, 1.0]], ["own"]) == [{"own": 0.0}]
    with pytest.raises(InputError, match="own takes no weights, and the rows have some"):
        metrics.evaluate([0, 1], [[0.0, 1.0]], ["own"], weights=[1, 2])


def test_a_metric_that_needs_what_is_not_there_says_so_and_is_not_trained(monkeypatch):
    monkeypatch.setitem(metrics.METRICS, "own", metrics.Metric(metrics.gauc, "higher", needs=("groups",)))
    assert list(metrics.evaluate([0, 1], [[0.0, 1.0]])[0]) == ["auc", "logloss"]
    with pytest.raises(InputError, match="own needs groups, and got none"):
        metrics.evaluate([0, 1], [[0.0, 1.0]], ["own"])


def test_logloss_goes_over_all_blocks_of_rows():
    rows = 2 * metrics._BLOCK_ROWS + 1
    labels, logits = sample(4, rows, 100_000, 3.0, np.float64)
    weights = np.random.default_rng(4).random(rows)
    p = metrics.probabilities(logits)
    assert metrics.logloss(labels, logits) == pytest.approx(log_loss(labels, p), rel=1e-12)
    assert metrics.logloss(labels, logits, weights=weights) == pytest.approx(
        log_loss(labels, p, sample_weight=weights), rel=1e-12
    )


def test_many_rows_are_sorted_as_few_are(monkeypatch):
    labels, scores = sample(3, 500, 40, 1.0, np.float32)
    few = metrics.auc(labels, scores)
    assert few == pytest.approx(roc_auc_score(labels, scores), rel=1e-12)
    monkeypatch.setattr(metrics, "_MANY", 0)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "polars", None)
        assert metrics.auc(labels, scores) == few
    monkeypatch.setattr(np, "sort", None)
    assert metrics.auc(labels, scores) == few
