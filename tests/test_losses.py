"""ektf_jax.losses against a float64 transcription of the formulas, sample by sample and pair by pair."""

import doctest
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax import losses
from tests.compilation import optimizations

# Pairs begin with 2, and nothing changes with more but sizes: an even and an odd number are fast.
STUDENTS = [2, 5, *(pytest.param(size, marks=pytest.mark.slow) for size in (3, 10, 64))]


@pytest.fixture(autouse=True, scope="module")
def as_users_compile():
    """What is accurate in an expression may not be in what XLA makes of it."""
    with optimizations(True):
        yield


def sample(num_students, batch=48, seed=0, scale=2.0):
    rng = np.random.default_rng([num_students, seed])
    return scale * rng.normal(size=(num_students, batch)), rng.binomial(1, 0.4, batch).astype(float)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def bce(p, y):
    return np.mean(-(y * np.log(p) + (1 - y) * np.log(1 - p)))


def transcribed_ektf(logits, labels, targets=None, *, kd=True, dml=True, examination=True):
    """Eq. 4 to 6 as the authors' code reads them: loops over students and pairs of students.

    `targets` are the logits behind the teacher and the peers: varied together with `logits` the targets
    carry gradient, held fixed they do not.
    """
    targets = logits if targets is None else targets
    num_students = len(logits)
    p, peers = sigmoid(logits), sigmoid(targets)
    teacher = sigmoid(targets.mean(axis=0))
    scores = [np.mean(1 - np.abs(labels - p[k])) for k in range(num_students)]
    loss = np.mean([bce(p[k], labels) for k in range(num_students)])
    for k in range(num_students):
        if kd:
            total = sum(np.exp(-s) for s in scores)
            weight = np.exp(-scores[k]) / total if examination else 1 / num_students
            loss += weight * np.mean((p[k] - teacher) ** 2)
        if dml:
            others = [i for i in range(num_students) if i != k]
            total = sum(np.exp(scores[i] - scores[k]) for i in others)
            for i in others:
                weight = np.exp(scores[i] - scores[k]) / total if examination else 1 / (num_students - 1)
                loss += weight * np.mean((p[k] - peers[i]) ** 2) / num_students
    return loss


def transcribed_per_sample(logits, labels):
    """Eq. 4 to 6 with one score per sample."""
    num_students, batch = logits.shape
    p, teacher = sigmoid(logits), sigmoid(logits.mean(axis=0))
    loss = np.mean([bce(p[k], labels) for k in range(num_students)])
    for b in range(batch):
        scores = 1 - np.abs(labels[b] - p[:, b])
        for k in range(num_students):
            loss += np.exp(-scores[k]) / np.exp(-scores).sum() * (p[k, b] - teacher[b]) ** 2 / batch
            total = np.exp(scores).sum() - np.exp(scores[k])
            for i in set(range(num_students)) - {k}:
                loss += np.exp(scores[i]) / total * (p[k, b] - p[i, b]) ** 2 / num_students / batch
    return loss


def numerical_gradient(function, x, step=1e-4):
    """Fourth-order central differences: exact to about 1e-11 here."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        values = []
        for shift in (2, 1, -1, -2):
            moved = x.copy()
            moved[index] += shift * step
            values.append(function(moved))
        gradient[index] = (-values[0] + 8 * values[1] - 8 * values[2] + values[3]) / (12 * step)
    return gradient


def analytic_gradient(logits, labels):
    """Gradient of the EKTF loss by hand: targets constant, gradient through the scores."""
    num_students, batch = logits.shape
    p = sigmoid(logits)
    teacher = sigmoid(logits.mean(axis=0))
    scores = np.array([np.mean(1 - np.abs(labels - p[k])) for k in range(num_students)])
    lam = np.exp(-scores) / np.exp(-scores).sum()
    kd = np.array([np.mean((p[k] - teacher) ** 2) for k in range(num_students)])
    mu = np.zeros((num_students, num_students))
    mse = np.zeros((num_students, num_students))
    for k in range(num_students):
        for i in range(num_students):
            if i != k:
                mu[k, i] = np.exp(scores[i]) / (np.exp(scores).sum() - np.exp(scores[k]))
                mse[k, i] = np.mean((p[k] - p[i]) ** 2)
    # d lambda_k / d S_j = -lambda_k (1[k = j] - lambda_j); d mu_kl / d S_j = mu_kl (1[l = j] - mu_kj).
    by_score = np.zeros(num_students)
    for j in range(num_students):
        by_score[j] -= lam[j] * (kd[j] - lam @ kd)
        for k in range(num_students):
            by_score[j] += mu[k, j] * (mse[k, j] - mu[k] @ mse[k]) / num_students
    slope = p * (1 - p)
    gradient = (p - labels) / batch / num_students
    gradient += slope * (2 * labels - 1) / batch * by_score[:, None]
    for k in range(num_students):
        gradient[k] += 2 * lam[k] * (p[k] - teacher) * slope[k] / batch
        for i in range(num_students):
            gradient[k] += 2 * mu[k, i] * (p[k] - p[i]) * slope[k] / batch / num_students
    return gradient


def in_float64(function, *arrays):
    """What a function says of float64 arrays. Op by op, values need few programs, and gradients many."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, function(*(jnp.asarray(x, jnp.float64) for x in arrays)))


@pytest.mark.parametrize("num_students", STUDENTS)
@pytest.mark.parametrize(
    "options",
    [{}, {"kd": False}, {"dml": False}, {"examination": False}, {"kd": False, "dml": False}],
    ids=["ektf", "only_dml", "only_kd", "without_em", "students_alone"],
)
def test_ektf_value_equals_the_transcription(num_students, options):
    logits, labels = sample(num_students)
    loss, terms = in_float64(partial(losses.ektf_loss, **options), logits, labels)
    assert loss.dtype == np.float64
    np.testing.assert_allclose(loss, transcribed_ektf(logits, labels, **options), rtol=0, atol=1e-9)
    np.testing.assert_allclose(terms.ctr + terms.kd + terms.dml, loss, rtol=1e-12)


@pytest.mark.parametrize("num_students", STUDENTS)
def test_ektf_gradient_equals_the_transcription(num_students):
    logits, labels = sample(num_students)
    actual = in_float64(jax.jit(jax.grad(lambda z, y: losses.ektf_loss(z, y)[0])), logits, labels)
    np.testing.assert_allclose(actual, analytic_gradient(logits, labels), rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_students", STUDENTS[:3])
@pytest.mark.parametrize("stop_gradient", [True, False])
def test_ektf_gradient_equals_differences_of_the_transcription(num_students, stop_gradient):
    logits, labels = sample(num_students, batch=9)
    targets = logits if stop_gradient else None
    expected = numerical_gradient(lambda z: transcribed_ektf(z, labels, targets), logits)
    actual = in_float64(
        jax.jit(jax.grad(lambda z, y: losses.ektf_loss(z, y, stop_gradient=stop_gradient)[0])), logits, labels
    )
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_students", [1, 3])
@pytest.mark.parametrize("options", [{}, {"examination": False}, {"stop_gradient": False}])
def test_another_teacher_takes_the_place_of_the_students_mean_and_gets_no_gradient(num_students, options):
    logits, labels = sample(num_students, batch=9)
    given = np.linspace(-3, 2, 9)

    def value(z, y, teacher):
        return losses.ektf_loss(z, y, dml=False, teacher_logits=teacher, **options)[0]

    p, scores = sigmoid(logits), 1 - np.abs(labels - sigmoid(logits)).mean(axis=1)
    weights = (
        np.exp(-scores) / np.exp(-scores).sum() if options.get("examination", True) else 1 / num_students
    )
    kd = np.sum(weights * np.mean((p - sigmoid(given)) ** 2, axis=1))
    expected = np.mean([bce(one, labels) for one in p]) + kd
    found, gradient = in_float64(jax.jit(jax.value_and_grad(value, argnums=2)), logits, labels, given)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert not gradient.any()


def test_a_teacher_of_other_rows_is_refused():
    logits, labels = sample(2)
    with pytest.raises(ValueError, match=r"teacher_logits \[B\]"):
        losses.ektf_loss(logits, labels, teacher_logits=np.zeros(len(labels) + 1))
    with pytest.raises(TypeError, match="floating-point teacher_logits"):
        losses.ektf_loss(logits, labels, teacher_logits=np.zeros(len(labels), int))


@pytest.mark.parametrize("num_students", STUDENTS[:4])
def test_per_sample_examination(num_students):
    logits, labels = sample(num_students, batch=13)

    def loss_fn(z, y):
        return losses.ektf_loss(z, y, per_sample=True, stop_gradient=False)

    (loss, terms), actual = in_float64(jax.jit(jax.value_and_grad(loss_fn, has_aux=True)), logits, labels)
    np.testing.assert_allclose(loss, transcribed_per_sample(logits, labels), rtol=0, atol=1e-9)
    np.testing.assert_allclose(terms.peer_weights.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(terms.teaching_weights.sum(), 1, rtol=1e-12)
    expected = numerical_gradient(lambda z: transcribed_per_sample(z, labels), logits)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_students", [1, 2, 5])
@pytest.mark.parametrize("weights", ["default", "scalar", "array"])
def test_kd_ctr_loss(num_students, weights):
    logits, labels = sample(num_students)
    lam = {"default": np.full(num_students, 1 / num_students), "scalar": np.full(num_students, 0.7)}.get(
        weights, np.linspace(0.5, 2.0, num_students)
    )
    argument = {"default": None, "scalar": 0.7, "array": lam}[weights]
    p = sigmoid(logits)
    for teacher, p_t in (("mean_logit", sigmoid(logits.mean(axis=0))), ("mean_prob", p.mean(axis=0))):
        expected = bce(p_t, labels) + sum(lam[k] * np.mean((p_t - p[k]) ** 2) for k in range(num_students))
        of = partial(losses.kd_ctr_loss, weights=argument, teacher=teacher)
        loss, terms = in_float64(of, logits, labels)
        np.testing.assert_allclose(loss, expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(terms.dml, 0)


@pytest.mark.parametrize("num_students", [1, 2, 5])
def test_dml_ctr_loss(num_students):
    logits, labels = sample(num_students)
    p = sigmoid(logits)
    for weights, mu in ((None, 1 / num_students), (0.3, 0.3)):
        expected = sum(bce(p[k], labels) for k in range(num_students)) + sum(
            mu * np.mean((p[i] - p[k]) ** 2)
            for k in range(num_students)
            for i in range(num_students)
            if i != k
        )
        loss, _ = in_float64(partial(losses.dml_ctr_loss, weights=weights), logits, labels)
        np.testing.assert_allclose(loss, expected, rtol=0, atol=1e-9)


def test_a_dml_diagonal_does_not_count():
    logits, labels = sample(3)
    weights = np.random.default_rng(1).random((3, 3)).astype(np.float32)
    loss = losses.dml_ctr_loss(jnp.array(logits), jnp.array(labels), weights=jnp.array(weights))[0]
    np.fill_diagonal(weights, 100.0)
    again = losses.dml_ctr_loss(jnp.array(logits), jnp.array(labels), weights=jnp.array(weights))[0]
    assert loss == again


@pytest.mark.parametrize("loss_fn", [losses.ektf_loss, losses.kd_ctr_loss, losses.dml_ctr_loss])
def test_targets_carry_no_gradient(loss_fn):
    """Only through the teacher: with K = 2 the gradient of student 0 does not see the transfer terms of 1."""
    logits, labels = map(jnp.array, sample(2))
    with_targets = jax.jit(jax.grad(lambda z: loss_fn(z, labels, stop_gradient=False)[0]))(logits)
    without = jax.jit(jax.grad(lambda z: loss_fn(z, labels)[0]))(logits)
    assert not np.allclose(with_targets, without)


WEIGHTS_OF = jax.jit(lambda scores: (losses.teaching_weights(scores), losses.peer_weights(scores)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=12))
def test_weights_are_distributions(scores):
    scores = np.array(scores, np.float32)
    lam, mu = WEIGHTS_OF(scores)
    assert mu.shape == (len(scores),) * 2
    np.testing.assert_allclose(lam.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(mu.sum(axis=1), 1 if len(scores) > 1 else 0, rtol=1e-5)
    np.testing.assert_array_equal(np.diag(mu), 0)
    order = np.argsort(np.asarray(scores), kind="stable")
    assert np.all(np.diff(np.asarray(lam)[order]) <= 1e-7), "the weakest student is taught most"


@pytest.mark.parametrize(
    "options", [{}, {"per_sample": True}, {"examination": False}, {"teacher": "mean_prob"}]
)
def test_one_student_has_no_peers(options):
    logits, labels = map(jnp.array, sample(1))
    (loss, terms), gradient = jax.jit(
        jax.value_and_grad(lambda z: losses.ektf_loss(z, labels, **options), has_aux=True)
    )(logits)
    assert terms.dml == 0
    np.testing.assert_allclose(loss, losses.ctr_loss(logits[0], labels), rtol=1e-6)
    np.testing.assert_array_equal(terms.peer_weights, [[0]])
    np.testing.assert_allclose(terms.teaching_weights, [1])
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("num_students", [1, 2, pytest.param(7, marks=pytest.mark.slow)])
@pytest.mark.parametrize("teacher", ["mean_logit", "mean_prob"])
@pytest.mark.parametrize("stop_gradient", [True, False])
def test_extreme_logits_stay_finite(num_students, teacher, stop_gradient):
    signs = np.random.default_rng(0).choice([-60.0, 60.0], size=(num_students, 32))
    logits, labels = jnp.array(signs, jnp.float32), jnp.array(np.arange(32) % 2, jnp.float32)
    options = {"teacher": teacher, "stop_gradient": stop_gradient}
    for loss_fn in (
        lambda z: losses.ektf_loss(z, labels, **options),
        lambda z: losses.ektf_loss(z, labels, per_sample=True, **options),
        lambda z: losses.kd_ctr_loss(z, labels, **options),
        lambda z: losses.dml_ctr_loss(z, labels, stop_gradient=stop_gradient),
    ):
        (loss, terms), gradient = jax.value_and_grad(loss_fn, has_aux=True)(logits)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, terms, gradient)))


@pytest.mark.parametrize("per_sample", [False, True])
def test_mutual_learning_is_accurate_when_students_nearly_agree(per_sample):
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=4096) + 4e-4 * rng.normal(size=(4, 4096))).astype(np.float32)
    labels = rng.binomial(1, 0.4, 4096).astype(np.float32)

    def dml(z, y):
        return losses.ektf_loss(z, y, per_sample=per_sample)[1].dml

    both = jax.value_and_grad(dml)
    exact, expected = in_float64(jax.jit(both), logits, labels)
    assert 3e-9 < exact < 3e-8
    found, actual = jax.jit(both)(logits, labels)
    np.testing.assert_allclose(found, exact, rtol=2e-3)
    assert np.linalg.norm(actual - expected) < 2e-3 * np.linalg.norm(expected)


SMALL = [jnp.bfloat16, jnp.float16, jnp.float8_e5m2]


def near_equal(dtype, batch=512):
    """Students that nearly agree, in 16 bits or fewer; and the same numbers in float64."""
    rng = np.random.default_rng(0)
    logits = jnp.array(rng.normal(size=batch) + 0.02 * rng.normal(size=(4, batch)), dtype)
    labels = rng.binomial(1, 0.4, batch).astype(np.float32)
    return logits, labels, np.asarray(logits.astype(jnp.float32), np.float64)


@pytest.mark.parametrize("dtype", SMALL)
def test_16_bits_keep_the_terms_of_students_that_nearly_agree(dtype):
    logits, labels, exact = near_equal(dtype)
    parts = {"ctr": {"kd": False, "dml": False}, "kd": {"dml": False}, "dml": {"kd": False}}
    whole = {name: transcribed_ektf(exact, labels, **options) for name, options in parts.items()}
    loss, terms = losses.ektf_loss(logits, labels)
    assert loss.dtype == jnp.float32
    assert {leaf.dtype for leaf in terms} == {jnp.dtype("float32")}
    np.testing.assert_allclose(terms.ctr, whole["ctr"], rtol=1e-6)
    np.testing.assert_allclose(terms.kd, whole["kd"] - whole["ctr"], rtol=1e-4)
    np.testing.assert_allclose(terms.dml, whole["dml"] - whole["ctr"], rtol=1e-4)
    per_sample = losses.ektf_loss(logits, labels, per_sample=True)[0]
    np.testing.assert_allclose(per_sample, transcribed_per_sample(exact, labels), rtol=1e-6)

    p, mean = sigmoid(exact), sigmoid(exact.mean(axis=0))
    kd = np.mean([np.mean((p_k - mean) ** 2) for p_k in p])
    np.testing.assert_allclose(losses.kd_ctr_loss(logits, labels)[1].kd, kd, rtol=1e-4)
    dml = sum(np.mean((a - b) ** 2) for a in p for b in p) / len(p)
    np.testing.assert_allclose(losses.dml_ctr_loss(logits, labels)[1].dml, dml, rtol=1e-4)
    scores = [np.mean(1 - np.abs(labels - p_k)) for p_k in p]
    np.testing.assert_allclose(losses.exam_scores(logits, labels), scores, rtol=1e-6)
    np.testing.assert_allclose(losses.fuse(logits, "mean"), exact.mean(axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(losses.fuse(logits, "sum"), exact.sum(axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(losses.ctr_loss(logits, labels), [bce(p_k, labels) for p_k in p], rtol=1e-6)


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("part", ["kd", "dml"])
def test_gradients_of_16_bits_are_those_of_float64_rounded_once(dtype, part):
    logits, labels, exact = near_equal(dtype, batch=16)

    def term(z):
        return 1e3 * getattr(losses.ektf_loss(z, labels)[1], part)

    actual = jax.jit(jax.grad(term))(logits)
    assert actual.dtype == dtype
    expected = in_float64(jax.jit(jax.grad(term)), exact)
    steps = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).smallest_subnormal)
    np.testing.assert_allclose(
        np.asarray(actual, np.float64), expected, rtol=steps[0], atol=2 * steps[1] + 1e-6
    )


@pytest.mark.parametrize("of", [losses.teaching_weights, losses.peer_weights])
def test_weights_of_16_bit_scores_are_float32(of):
    scores = jnp.array([0.5, 0.502, 0.75], jnp.bfloat16)
    assert of(scores).dtype == jnp.float32
    np.testing.assert_array_equal(of(scores), of(scores.astype(jnp.float32)))


def test_float64_stays_float64():
    _, labels, exact = near_equal(jnp.bfloat16)
    for loss in (losses.ektf_loss, losses.kd_ctr_loss, losses.dml_ctr_loss):
        found = in_float64(jax.jit(jax.value_and_grad(lambda z, f=loss: f(z, labels), has_aux=True)), exact)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float64")}


@pytest.mark.parametrize(
    "loss",
    [
        losses.ektf_loss,
        partial(losses.ektf_loss, per_sample=True),
        partial(losses.ektf_loss, teacher="mean_prob", examination=False),
        partial(losses.ektf_loss, kd=False, dml=False),
        partial(losses.ektf_loss, teacher_logits=np.zeros(4, np.float64)),
        partial(losses.kd_ctr_loss, teacher="mean_prob", weights=np.float64(0.5)),
        partial(losses.dml_ctr_loss, reduction="mean"),
    ],
)
@pytest.mark.parametrize("weights", [None, np.ones(4, np.float64)])
def test_float32_stays_float32_where_float64_is_there(loss, weights):
    logits, labels = np.zeros((3, 4), np.float32), np.ones(4, np.float64)
    with jax.enable_x64(True):
        found = jax.eval_shape(jax.grad(lambda z: loss(z, labels, sample_weights=weights)[0]), logits)
        parts = jax.eval_shape(lambda z: loss(z, labels, sample_weights=weights), logits)
    assert {leaf.dtype for leaf in jax.tree.leaves((found, parts))} == {np.dtype("float32")}


@pytest.mark.parametrize("per_sample", [False, True])
def test_no_tensor_of_pairs_times_batch(per_sample):
    num_students, batch = 7, 1000

    def loss(z, y):
        return losses.ektf_loss(z, y, per_sample=per_sample)[0]

    shapes = (
        jax.ShapeDtypeStruct((num_students, batch), jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.float32),
    )
    text = str(jax.make_jaxpr(jax.value_and_grad(loss))(*shapes))
    assert f"f32[{num_students},{batch}]" in text
    assert f"[{num_students},{num_students},{batch}]" not in text


def test_transformations_agree():
    logits, labels = sample(3)
    z = jnp.stack([jnp.array(logits), jnp.array(logits) + 1])
    y = jnp.array(labels)
    batched = jax.jit(jax.vmap(lambda z: losses.ektf_loss(z, y)[0]))(z)
    np.testing.assert_allclose(batched, [losses.ektf_loss(z[i], y)[0] for i in range(2)], rtol=1e-6)


def test_fuse():
    logits = jnp.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(losses.fuse(logits, "mean"), [2, 3])
    np.testing.assert_array_equal(losses.fuse(logits, "sum"), [6, 9])
    with pytest.raises(ValueError, match="concat"):
        losses.fuse(logits, "concat")


def test_errors_name_the_value():
    logits, labels = map(jnp.array, sample(2))
    with pytest.raises(ValueError, match="mean_log"):
        losses.ektf_loss(logits, labels, teacher="mean_log")
    with pytest.raises(ValueError, match=r"\(48, 2\)"):
        losses.ektf_loss(logits.T, labels)
    for loss in (losses.ektf_loss, losses.kd_ctr_loss, losses.dml_ctr_loss):
        with pytest.raises(ValueError, match=r"K at least 1.*\(0, 48\)"):
            loss(logits[:0], labels)


THREE = [losses.ektf_loss, losses.kd_ctr_loss, losses.dml_ctr_loss]
OF_BOTH = [*THREE, losses.exam_scores, losses.ctr_loss]
OF_LOGITS = [
    *(lambda z, f=f: f(z, np.ones(z.shape[1])) for f in OF_BOTH),
    lambda z: losses.fuse(z, "mean"),
    lambda z: losses.fuse(z, "sum"),
    lambda z: losses.teaching_weights(z[:, 0]),
    lambda z: losses.peer_weights(z[:, 0]),
]


@pytest.mark.parametrize("of", OF_LOGITS)
@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "bool", "complex64"])
@pytest.mark.parametrize("how", [lambda f: f, jax.jit])
def test_logits_that_are_not_floating_point_are_refused(of, dtype, how):
    with pytest.raises(TypeError, match=rf"floating-point (logits|scores), got {dtype}"):
        how(of)(jnp.ones((3, 8), dtype))


@pytest.mark.parametrize("loss", OF_BOTH)
def test_an_empty_batch_is_refused(loss):
    with pytest.raises(ValueError, match=r"B at least 1, got \(3, 0\) and \(0,\)"):
        loss(jnp.ones((3, 0)), jnp.ones(0))


@pytest.mark.parametrize("loss", OF_BOTH)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (8, 1), (1, 8), (3, 8), (9,)])
def test_labels_of_another_shape_are_refused(loss, shape):
    with pytest.raises(ValueError, match=r"logits \[K, B\] and labels \[B\]"):
        jax.jit(loss)(jnp.ones((3, 8)), jnp.ones(shape))


@pytest.mark.parametrize("loss", OF_BOTH)
def test_complex_labels_are_refused(loss):
    with pytest.raises(TypeError, match="complex64"):
        loss(jnp.ones((3, 8)), jnp.ones(8, jnp.complex64))


@pytest.mark.parametrize("loss", OF_BOTH)
@pytest.mark.parametrize("shape", [(), (9,), (8, 1)])
def test_weights_of_other_rows_are_refused_by_their_name(loss, shape):
    with pytest.raises(ValueError, match=r"sample_weights \[B\].*got \(3, 8\)"):
        loss(jnp.ones((3, 8)), jnp.ones(8), sample_weights=jnp.ones(shape))
    with pytest.raises(TypeError, match="expected sample_weights that are real"):
        loss(jnp.ones((3, 8)), jnp.ones(8), sample_weights=jnp.ones(8, jnp.complex64))


def test_no_student_has_no_scores():
    assert losses.exam_scores(jnp.ones((0, 8)), jnp.ones(8)).shape == (0,)


@pytest.mark.parametrize("options", [{}, {"per_sample": True}])
def test_exported_for_any_number_of_students_and_rows(options):
    symbols = jax.export.symbolic_shape("k, b", constraints=["k >= 2"])
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (symbols, symbols[1:])]
    of_any = jax.export.export(jax.jit(partial(losses.ektf_loss, **options)))(*shapes)
    for size in (2, 5):
        logits, labels = (jnp.array(x, jnp.float32) for x in sample(size))
        expected = losses.ektf_loss(logits, labels, **options)[0]
        np.testing.assert_allclose(of_any.call(logits, labels)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("loss", THREE)
@pytest.mark.parametrize("shape", [(), (8,), (2, 3, 8)])
def test_logits_of_another_rank_are_refused(loss, shape):
    with pytest.raises(ValueError, match="expected logits"):
        loss(jnp.ones(shape), jnp.ones(8))


@pytest.mark.parametrize("shape", [(), (8,), (0, 8), (2, 3, 8)])
def test_logits_that_cannot_be_fused_are_refused(shape):
    with pytest.raises(ValueError, match="expected logits"):
        losses.fuse(jnp.ones(shape), "mean")


@pytest.mark.parametrize("shape", [(), (0,), (2, 2, 2)])
def test_scores_of_another_rank_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected scores \[K\]"):
        losses.teaching_weights(jnp.ones(shape))
    with pytest.raises(ValueError, match=r"expected scores \[K\]"):
        losses.peer_weights(jnp.ones(shape))
    with pytest.raises(ValueError, match=r"expected scores \[K\]"):
        losses.peer_weights(jnp.ones((3, 4)))


@pytest.mark.parametrize(
    ("loss", "shapes"),
    [
        (losses.kd_ctr_loss, [(1,), (4,), (3, 1), (3, 3), (3, 8)]),
        (losses.dml_ctr_loss, [(1,), (3,), (3, 1), (1, 3), (4, 4), (3, 8)]),
    ],
)
def test_weights_of_another_shape_are_refused(loss, shapes):
    """Broadcast, [K] as [K, K] would silently mean one of two things."""
    for shape in shapes:
        with pytest.raises(ValueError, match="weights that are a scalar or of shape"):
            loss(jnp.ones((3, 8)), jnp.ones(8), weights=np.ones(shape))


@pytest.mark.parametrize("loss", [losses.ektf_loss, losses.kd_ctr_loss])
def test_an_unknown_teacher_is_refused_also_where_it_does_not_teach(loss):
    for options in ({}, {"kd": False}) if loss is losses.ektf_loss else ({},):
        with pytest.raises(ValueError, match="'mean' is unknown"):
            loss(jnp.ones((3, 8)), jnp.ones(8), teacher="mean", **options)
    assert get_args(get_type_hints(loss)["teacher"]) == ("mean_logit", "mean_prob")


@pytest.mark.parametrize("loss", OF_BOTH)
def test_numpy_arrays_and_labels_of_any_type_are_taken(loss):
    logits, labels = sample(3)
    logits = logits.astype(np.float32)
    expected = loss(jnp.array(logits), jnp.array(labels))
    for dtype in ("bool", "int8", "uint8", "int64", "float16", "float64"):
        actual = jax.tree.map(np.asarray, loss(logits, labels.astype(dtype)))
        jax.tree.map(np.testing.assert_array_equal, actual, expected)
    jax.tree.map(np.testing.assert_array_equal, loss(logits, jnp.array(labels, jnp.bfloat16)), expected)


def test_a_scalar_weight_may_be_an_integer_or_of_numpy():
    logits, labels = sample(3)
    for loss in (losses.kd_ctr_loss, losses.dml_ctr_loss):
        expected = float(loss(logits, labels, weights=2.0)[0])
        for weight in (2, np.float64(2), np.int8(2)):
            assert float(loss(logits, labels, weights=weight)[0]) == expected


@pytest.mark.parametrize("loss", THREE)
def test_what_the_docstring_says_is_static_is_static(loss):
    logits, labels = sample(3)
    values = {
        "weights": jnp.float32(0.3),
        "sample_weights": jnp.arange(labels.size),
        "teacher_logits": logits[0],
    }
    found = re.search(r"static but the arrays ([^:]*):", losses.__doc__ or "")
    assert found
    said = found[1]
    assert re.findall(r"`(\w+)`", said) == list(values)
    arrays = {name: value for name, value in values.items() if name in loss.__kwdefaults__}
    options = {name: value for name, value in loss.__kwdefaults__.items() if name not in arrays}
    options |= {"per_sample": True, "examination": True} if loss is losses.ektf_loss else {}
    jitted = jax.jit(loss, static_argnames=tuple(options))
    expected = loss(logits, labels, **options, **arrays)[0]
    np.testing.assert_allclose(jitted(logits, labels, **options, **arrays)[0], expected, rtol=1e-6)


def test_the_docstrings_examples_run():
    failed, attempted = doctest.testmod(losses)
    assert failed == 0
    assert attempted > 10


SOME_CASES = ["both", "weights", "shard_map", "pmap"]


@pytest.mark.parametrize(
    "some",
    [
        pytest.param(SOME_CASES, marks=pytest.mark.slow, id="some"),
        pytest.param([], marks=pytest.mark.long, id="all"),
    ],
)
def test_four_devices_have_the_values_of_one(some):
    """However arrays are laid or mapped; loss_on_devices.CASES says how."""
    # The compiler's expensive passes cost this test half its time and change nothing that it looks at.
    flags = "--xla_force_host_platform_device_count=4 --xla_llvm_disable_expensive_passes=true"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    child = subprocess.run(
        [sys.executable, "-m", "tests.loss_on_devices", *some],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    cases = json.loads(child.stdout)
    assert set(cases) == set(some) if some else set(SOME_CASES) | {"rows", "docstring"} < set(cases)
    wrong = {name: off for name, off in cases.items() if not isinstance(off, float) or not off < 2e-6}
    assert wrong == {}


def test_imports_jax_and_optax_only():
    code = (
        "import sys, jax, optax; before = set(sys.modules); import ektf_jax.losses; "
        "print(*sorted(set(sys.modules) - before))"
    )
    added = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert added == ["ektf_jax", "ektf_jax.losses", "ektf_jax.losses.arrays"]


def transcribed_self_transfer(passes, targets=None):
    """Of passes [P, K, B], their mean predictions [K, B] and the losses [K], pass by pass."""
    p = sigmoid(passes)
    mean = p.mean(axis=0)
    soft = sigmoid(passes if targets is None else targets).mean(axis=0)
    own = [sum(bce(p[i, k], soft[k]) for i in range(len(p))) for k in range(p.shape[1])]
    return mean, np.array(own)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (2, 4), (3, 10)])
def test_self_transfer_is_its_formula_in_value_and_gradient(shape):
    rng = np.random.default_rng(shape)
    passes, cotangent = 2 * rng.normal(size=(*shape, 6)), rng.normal(size=(shape[1], 6))

    def total(passes):
        logits, own = losses.self_transfer(passes)
        return jnp.sum(logits * cotangent) + jnp.sum(own), (logits, own)

    (_, (logits, own)), gradient = in_float64(jax.jit(jax.value_and_grad(total, has_aux=True)), passes)
    mean, expected = transcribed_self_transfer(passes)
    np.testing.assert_allclose(sigmoid(logits), mean, rtol=1e-12)
    np.testing.assert_allclose(own, expected, rtol=1e-12)

    def transcribed(moved):  # the targets are those of before
        mean, own = transcribed_self_transfer(moved, passes)
        return np.sum(np.log(mean / (1 - mean)) * cotangent) + own.sum()

    np.testing.assert_allclose(gradient, numerical_gradient(transcribed, passes), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 4])
def test_self_transfer_inside_ektf_is_the_sum_of_both(size):
    rng = np.random.default_rng(size)
    passes, labels = 2 * rng.normal(size=(2, size, 24)), rng.integers(0, 2, 24).astype(float)

    def loss(passes, labels):
        logits, own = losses.self_transfer(passes)
        return losses.ektf_loss(logits, labels)[0] + jnp.mean(own)

    mean, own = transcribed_self_transfer(passes)
    ektf = transcribed_ektf(np.log(mean / (1 - mean)), labels, dml=size > 1)
    np.testing.assert_allclose(in_float64(loss, passes, labels), ektf + own.mean(), rtol=1e-12)


@jax.jit
def self_transfer_gradients(logits):
    """Of two losses: what self-transfer adds, and all of what it returns."""

    def added(logits):
        mean, own = losses.self_transfer(logits)
        return jnp.sum(own), mean

    (own, mean), gradient = jax.value_and_grad(added, has_aux=True)(logits)
    of_all = jax.grad(lambda logits: sum(map(jnp.sum, losses.self_transfer(logits))))(logits)
    return own, mean, gradient, of_all


@given(st.lists(st.floats(-300, 300, width=32), min_size=4, max_size=4))
@settings(deadline=None)
def test_passes_that_agree_teach_nothing_and_extremes_stay_finite(row):
    """Of equal passes the mean is each of them, and the gradient of their loss vanishes."""
    equal = np.broadcast_to(np.float32(row), (3, 1, 4))
    own, mean, gradient, _ = self_transfer_gradients(equal)
    assert np.isfinite(own)
    np.testing.assert_allclose(mean[0], row, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    for value in self_transfer_gradients(equal * np.array([[[1]], [[-1]], [[0.5]]], np.float32)):
        assert np.isfinite(value).all()


@pytest.mark.parametrize("shape", [(4, 8), (0, 4, 8), (2, 0, 8), (2, 4, 0), (4,)])
def test_self_transfer_wants_passes(shape):
    with pytest.raises(ValueError, match=r"expected logits \[P, K, B\], each at least 1"):
        losses.self_transfer(jnp.zeros(shape))


@pytest.mark.parametrize("num_students", [1, 3])
def test_the_mean_of_dml_is_its_sum_over_k(num_students):
    logits, labels = sample(num_students)
    whole, parts = in_float64(losses.dml_ctr_loss, logits, labels)
    mean, of_mean = in_float64(partial(losses.dml_ctr_loss, reduction="mean"), logits, labels)
    np.testing.assert_allclose(mean, whole / num_students, rtol=1e-14)
    np.testing.assert_allclose(of_mean.ctr + of_mean.dml, mean, rtol=1e-14)
    np.testing.assert_allclose(of_mean.peer_weights, parts.peer_weights)


def test_another_reduction_is_refused():
    with pytest.raises(ValueError, match='reduction \'max\' is unknown: use "sum" or "mean"'):
        losses.dml_ctr_loss(jnp.zeros((2, 3)), jnp.zeros(3), reduction="max")
