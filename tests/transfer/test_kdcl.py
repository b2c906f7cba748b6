"""KDCL's four teachers, against what they are defined by."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax import losses, transfer
from ektf_jax.ensemble import Prediction
from ektf_jax.transfer.divergence import divergence
from ektf_jax.transfer.kdcl import TEACHERS, general, linear, minlogit, naive

RNG = np.random.default_rng(1)
LABELS = RNG.integers(0, 2, 64).astype(np.float64)
# The first student knows something, the second less, the third nothing.
LOGITS = np.stack([(2 * LABELS - 1) * strength for strength in (1.0, 0.4, 0.0)]) + RNG.normal(size=(3, 64))


@pytest.fixture(autouse=True, scope="module")
def float64():
    with jax.enable_x64(True):
        yield


def test_naive_is_the_best_student():
    np.testing.assert_array_equal(naive(LOGITS, LABELS), LOGITS[0])
    np.testing.assert_array_equal(naive(LOGITS[::-1], LABELS), LOGITS[0])


def test_minlogit_takes_the_smallest_logit_of_the_other_class_relative_to_the_labels():
    # The paper's wording for two classes with logits (0, z).
    expected = []
    for b, label in enumerate(LABELS.astype(int)):
        two = np.stack([np.zeros(3), LOGITS[:, b]], axis=1)
        smallest = (two - two[:, [label]]).min(axis=0)
        expected.append(smallest[1] - smallest[0])
    np.testing.assert_allclose(minlogit(LOGITS, LABELS), expected, rtol=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 1.0, 2.0]))
def test_linear_is_the_best_convex_mixture(seed, scale):
    rng = np.random.default_rng(seed)
    logits = scale * (rng.uniform(0, 1, (3, 1)) * (2 * LABELS - 1) + rng.normal(size=(3, 64)))
    grid = np.linspace(0, 1, 41)
    mixtures = [(a, b, 1 - a - b) for a, b in itertools.product(grid, grid) if a + b <= 1 + 1e-12]
    best = min(np.asarray(losses.ctr_loss(np.array(mixtures) @ logits, LABELS)))
    found = losses.ctr_loss(linear(logits, LABELS), LABELS)
    assert found <= best + 1e-3


def test_general_inverts_the_moments_of_the_errors():
    errors = 1 / (1 + np.exp(-LOGITS)) - LABELS
    moments = errors @ errors.T / 64
    inverse = np.linalg.inv(moments + 1e-3 * np.trace(moments) / 3 * np.eye(3))
    weights = inverse.sum(axis=1) / inverse.sum()
    np.testing.assert_allclose(general(LOGITS, LABELS), weights @ LOGITS, rtol=1e-9)


@pytest.mark.parametrize("variant", TEACHERS)
def test_students_learn_from_labels_and_teacher_and_nothing_flows_through_the_teacher(variant):
    options = {"variant": variant, "weight": 0.5, "temperature": 2.0, "divergence": "kl"}
    loss_fn = transfer.make("kdcl", **options)
    teacher = np.asarray(TEACHERS[variant](LOGITS, LABELS))

    def direct(logits):
        gaps = divergence(teacher, logits, kind="kl", temperature=2.0)
        return (losses.ctr_loss(logits, LABELS) + 0.5 * gaps).mean()

    def loss(logits):
        return loss_fn(Prediction(logits, logits[0]), LABELS)[0]

    found, expected = (jax.value_and_grad(function)(LOGITS) for function in (loss, direct))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), found, expected)


@pytest.mark.parametrize("variant", TEACHERS)
def test_equal_and_single_students_have_finite_gradients(variant):
    def loss(logits):
        return transfer.make("kdcl", variant=variant)(
            Prediction(logits, logits[0]), LABELS.astype(np.float32)
        )[0]

    for logits in (np.ones((3, 64), np.float32), LOGITS[:1].astype(np.float32)):
        assert np.isfinite(jax.grad(loss)(logits)).all()


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="variant 'mean' is unknown: use one of naive, minlogit"):
        transfer.make("kdcl", variant="mean")(Prediction(LOGITS, LOGITS[0]), LABELS)
