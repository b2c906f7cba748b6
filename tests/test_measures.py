"""Measures of diversity and collapse against plain float64 loops, and what they refuse."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from ektf_jax import measures

shapes = {
    "seed": st.integers(0, 2**32 - 1),
    "students": st.integers(1, 7),
    "rows": st.integers(2, 300),
    "scale": st.sampled_from([1e-3, 1.0, 30.0]),
}


def sample(seed, students, rows, scale):
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.3).astype(np.float32)
    labels[:2] = [0, 1]
    return labels, (scale * rng.standard_normal((students, rows))).astype(np.float32)


@given(**shapes)
@settings(deadline=None)
def test_ambiguity_is_the_gap_between_mean_loss_and_loss_of_the_mean(seed, students, rows, scale):
    labels, logits = sample(seed, students, rows, scale)

    def entropy(row):
        return math.fsum(
            max(-x, 0) + math.log1p(math.exp(-abs(x))) if y else max(x, 0) + math.log1p(math.exp(-abs(x)))
            for x, y in zip(row, labels, strict=True)
        ) / len(labels)

    wide = [[float(x) for x in row] for row in logits]
    mean = [math.fsum(column) / students for column in zip(*wide, strict=True)]
    expected = math.fsum(entropy(row) for row in wide) / students - entropy(mean)
    found = measures.ambiguity(labels, logits)
    assert found == pytest.approx(expected, abs=1e-12 * max(1, scale))
    assert found >= -1e-16


def test_ambiguity_by_scikit_learn():
    labels, logits = sample(0, 4, 20_000, 1.0)  # more rows than a block has
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    fused = 1 / (1 + np.exp(-logits.astype(np.float64).mean(axis=0)))
    expected = np.mean([log_loss(labels, row) for row in probabilities]) - log_loss(labels, fused)
    assert measures.ambiguity(labels, logits) == pytest.approx(expected, abs=1e-12)


@given(**shapes | {"students": st.integers(2, 7)})
@example(seed=132, students=2, rows=4, scale=30.0)  # sure and right: errors of 1e-11
@settings(deadline=None)
def test_error_correlation_agrees_with_corrcoef(seed, students, rows, scale):
    labels, logits = sample(seed, students, rows, scale)
    wide = logits.astype(np.float64)
    errors = np.where(labels == 1, -1 / (1 + np.exp(wide)), 1 / (1 + np.exp(-wide)))
    matrix = np.corrcoef(errors)
    pairs = [matrix[k, other] for k in range(students) for other in range(k)]
    assert measures.error_correlation(labels, logits) == pytest.approx(np.mean(pairs), abs=1e-9)


def test_students_that_agree_have_no_ambiguity_and_full_correlation():
    labels, logits = sample(1, 1, 500, 1.0)
    same = np.repeat(logits, 3, axis=0)
    assert measures.ambiguity(labels, same) == pytest.approx(0, abs=1e-16)
    assert measures.error_correlation(labels, same) == pytest.approx(1, abs=1e-12)


def test_spectrum_of_a_table_that_is_known():
    rng = np.random.default_rng(2)
    left, _ = np.linalg.qr(rng.standard_normal((50, 4)))
    right, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    table = left * [8.0, 4.0, 2.0, 0.0] @ right.T
    values = measures.spectrum(table)
    np.testing.assert_allclose(values, [1, 0.5, 0.25, 0], atol=1e-12)
    assert measures.information_abundance(values) == pytest.approx(14 / 8, abs=1e-12)
    entropy = -sum(p * math.log(p) for p in (8 / 14, 4 / 14, 2 / 14))
    assert measures.effective_rank(values) == pytest.approx(math.exp(entropy), abs=1e-9)


@pytest.mark.parametrize("rows", [0, 1, 3, measures._BLOCK_ROWS, measures._BLOCK_ROWS + 1, 200_000])
def test_spectrum_is_that_of_the_whole_table_in_little_memory(rows):
    scales = 10.0 ** -np.arange(5.0)
    table = (np.random.default_rng(rows).standard_normal((rows, 5)) * scales).astype(np.float32)
    tracemalloc.start()
    found = measures.spectrum(table)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    whole = np.linalg.svd(table.astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(found, whole / whole[:1], rtol=1e-11)
    assert found.shape == (min(rows, 5),)
    assert peak < 8 * measures._BLOCK_ROWS * 5 * 8


def test_ranks_of_the_extremes():
    assert measures.effective_rank(measures.spectrum(np.eye(6, 3))) == pytest.approx(3, abs=1e-12)
    assert measures.information_abundance(np.ones(3)) == 3
    assert measures.information_abundance([8.0, 4.0, 2.0]) == 14 / 8  # in whatever unit
    one = measures.spectrum(np.outer(np.arange(5.0), np.arange(4.0)))
    assert measures.effective_rank(one) == pytest.approx(1, abs=1e-9)
    zeros = measures.spectrum(np.zeros((5, 4)))
    assert zeros.tolist() == [0, 0, 0, 0]
    assert measures.effective_rank(zeros) == measures.information_abundance(zeros) == 0


@pytest.mark.parametrize(
    ("labels", "logits"),
    [(np.zeros(3), np.zeros(3)), (np.zeros(3), np.zeros((2, 4))), (np.zeros(0), np.zeros((2, 0)))],
)
def test_other_shapes_are_refused(labels, logits):
    for measure in (measures.ambiguity, measures.error_correlation):
        with pytest.raises(ValueError, match=r"expected labels \[N\] and logits \[K, N\]"):
            measure(labels, logits)


def test_correlations_that_are_none_are_refused():
    labels, logits = sample(3, 1, 50, 1.0)
    with pytest.raises(ValueError, match="needs two students"):
        measures.error_correlation(labels, logits)
    flat = np.zeros((2, 4))
    with pytest.raises(ValueError, match="student 0: its errors do not vary"):
        measures.error_correlation(np.zeros(4), flat)
