"""Measures of what goes on inside an ensemble: how far its students differ, and how much of a table is used.

Pure functions of numpy arrays, in float64. They judge no prediction; `ektf_jax.metrics` does.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCK_ROWS = 1 << 14  # float64 temporaries stay small, whatever the number of rows


def ambiguity(labels: ArrayLike, logits: ArrayLike) -> float:
    """How much the mean of the students' logits gains by their differences, in nats.

    The mean of the students' cross-entropies less the cross-entropy of their mean logit, exactly. It is never
    negative, and 0 where all students agree: cross-entropy is convex in the logit. This is the ambiguity of
    Krogh and Vedelsby (1995), Neural Network Ensembles, Cross Validation, and Active Learning, for
    cross-entropy; see Wood et al. (2023), A Unified Theory of Diversity in Ensemble Learning.

    labels [N] in {0, 1}; logits [K, N]. Raises ValueError for other shapes.
    """
    gaps = []
    for targets, students in _blocks(labels, logits):
        signed = np.where(targets == 1, -students, students)
        of_students, of_mean = np.logaddexp(0.0, signed).mean(axis=0), np.logaddexp(0.0, signed.mean(axis=0))
        gaps.append(float(np.sum(of_students - of_mean)))
    return math.fsum(gaps) / np.size(labels)


def error_correlation(labels: ArrayLike, logits: ArrayLike) -> float:
    """Mean over pairs of students of the correlation of their errors, probability less label.

    1 where all students err alike: an ensemble gains nothing. labels [N] in {0, 1}; logits [K, N]. Raises
    ValueError for fewer than two students, for errors that do not vary, and for other shapes.
    """
    number = len(np.asarray(logits))
    sums, products = np.zeros(number), np.zeros((number, number))
    for targets, students in _blocks(labels, logits):
        side = 1.0 - 2.0 * targets
        # A probability near 1 less 1 would have no digits left.
        errors = side * np.exp(-np.logaddexp(0.0, -side * students))
        sums += errors.sum(axis=1)
        products += errors @ errors.T
    if number < 2:
        raise ValueError("a correlation of errors needs two students")
    rows = np.size(labels)
    covariances = products / rows - np.outer(sums, sums) / rows**2
    variances = np.diag(covariances)
    # What rounding leaves of a variance that is none.
    if not (variances > 1e-15 * np.diag(products) / rows).all():
        raise ValueError(
            f"student {int(np.argmin(variances))}: its errors do not vary, they have no correlation"
        )
    correlations = covariances / np.sqrt(np.outer(variances, variances))
    return float(np.mean(correlations[np.triu_indices(number, k=1)]))


def spectrum(table: ArrayLike) -> NDArray[np.float64]:
    """Singular values of a field's embeddings [V, D], largest first, over the largest; [min(V, D)].

    All zeros for a table of zeros. A table that uses few of its D dimensions has a few large ones.
    """
    rows = np.asarray(table)
    # The triangle of a QR decomposition has the singular values of the rows it stands for.
    triangle = np.empty((0, rows.shape[1]))
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        triangle = np.linalg.qr(np.concatenate([triangle, block], dtype=np.float64)).R
    values = np.linalg.svd(triangle, compute_uv=False)
    return values / values[0] if values.size and values[0] > 0 else np.zeros_like(values)


def effective_rank(spectrum: ArrayLike) -> float:
    """How many dimensions singular values speak of: the exponential of their entropy, 0 if all are zero.

    Between 1 and their number. Roy and Vetterli (2007), The Effective Rank.
    """
    values = np.asarray(spectrum, np.float64)
    if not values.any():
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def information_abundance(spectrum: ArrayLike) -> float:
    """Sum of singular values over the largest, 0 if all are zero.

    Small where embeddings collapse. Guo et al. (ICML 2024), On the Embedding Collapse When Scaling Up
    Recommendation Models, Definition 1.
    """
    values = np.asarray(spectrum, np.float64)
    return float(values.sum() / values.max()) if values.any() else 0.0


def _blocks(
    labels: ArrayLike, logits: ArrayLike
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Labels [n] and logits [K, n] in float64, some rows at a time; ValueError for shapes that do not fit."""
    targets, students = np.asarray(labels), np.asarray(logits)
    if targets.ndim != 1 or students.ndim != 2 or students.shape[1] != targets.size or not students.size:
        raise ValueError(
            "expected labels [N] and logits [K, N] with K and N of at least 1, got"
            f" {list(targets.shape)} and {list(students.shape)}"
        )
    for start in range(0, targets.size, _BLOCK_ROWS):
        stop = start + _BLOCK_ROWS
        yield targets[start:stop].astype(np.float64), students[:, start:stop].astype(np.float64)
