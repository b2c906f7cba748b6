"""Every method on rows with weights is the method on rows that are there so many times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ektf_jax import transfer
from ektf_jax.ensemble import Prediction
from ektf_jax.transfer.eckd import Guided

K, B = 3, 14
RNG = np.random.default_rng(0)
LOGITS = 2 * RNG.normal(size=(K, B))
LABELS = RNG.integers(0, 2, B).astype(float)
WEIGHTS = np.array([0, 1, 2, 3, 1, 0, 5, 1, 2, 2, 1, 1, 4, 1])
TAUGHT = RNG.normal(size=(2, B))
HIDDEN = RNG.normal(size=(2, B, 4))

CASES = [
    ("ektf", {}),
    ("ektf", {"per_sample": True, "teacher": "mean_prob"}),
    ("kd", {"teacher": "mean_prob"}),
    ("dml", {"reduction": "mean"}),
    ("kdcl", {"variant": "general"}),
    ("eckd", {}),
    ("dagfm", {}),
]
MORE = [
    ("ektf", {"examination": False, "stop_gradient": False}),
    ("kd", {}),
    ("online_kd", {}),
    ("kdcl", {"variant": "naive"}),
    ("kdcl", {"variant": "minlogit", "divergence": "mse"}),
    ("kdcl", {"variant": "linear"}),
    ("eckd", {"hint_weight": 0.0}),
    ("dagfm", {"stage": "finetuning"}),
    ("none", {}),
]
ALL = [*CASES, *(pytest.param(*case, marks=pytest.mark.long) for case in MORE)]


def loss_of(name, options, logits, rows, weights):
    """The loss and its terms on some of the rows; ECKD's hints are for a single student."""
    logits = logits[:, rows]
    if name == "eckd" and not options:
        logits = logits[:1]
    prediction: Prediction | Guided = Prediction(logits, jnp.mean(logits, axis=0))
    teachers = {"eckd": 2, "dagfm": 1}.get(name, 0)
    hidden = tuple(HIDDEN[i, rows] for i in range(teachers))
    outputs = [transfer.TeacherOutputs(TAUGHT[:teachers, rows], hidden)] if teachers else []
    if name == "eckd":
        gates = np.array([0.3, -1]), np.array([0.1, 0.2])
        prediction = Guided(logits, jnp.mean(logits, axis=0), None, *gates, hidden[::-1])
    return transfer.make(name, **options)(prediction, LABELS[rows], *outputs, **weights)


@pytest.mark.parametrize(("name", "options"), ALL)
def test_a_weight_is_a_number_of_rows(name, options):
    def weighed(logits):
        return loss_of(name, options, logits, np.arange(B), {"sample_weights": 0.25 * WEIGHTS})

    def repeated(logits):
        return loss_of(name, options, logits, np.repeat(np.arange(B), WEIGHTS), {})

    with jax.enable_x64(True):
        (found, terms), (expected, wanted) = jax.jit(lambda z: (weighed(z), repeated(z)))(LOGITS)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9), terms, wanted)


@pytest.mark.parametrize(("name", "options"), [CASES[0], *ALL[len(CASES) :]])
def test_ones_are_none_to_the_bit(name, options):
    logits = LOGITS.astype(np.float32)
    plain = loss_of(name, options, logits, np.arange(B), {})
    ones = loss_of(name, options, logits, np.arange(B), {"sample_weights": np.ones(B, np.float32)})
    jax.tree.map(np.testing.assert_array_equal, ones, plain)


def test_every_method_is_here():
    assert {name for name, _ in [*CASES, *MORE]} == set(transfer.METHODS)
