"""Online KD and the divergences, against a float64 transcription."""

import jax
import numpy as np
import pytest

from ektf_jax import transfer
from ektf_jax.ensemble import Prediction
from ektf_jax.transfer.divergence import divergence

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 16)) * 2
LABELS = RNG.integers(0, 2, 16).astype(np.float64)


@pytest.fixture(autouse=True, scope="module")
def float64():
    with jax.enable_x64(True):
        yield


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def plain_divergence(teacher, student, kind, temperature):
    t, p = sigmoid(teacher / temperature), sigmoid(student / temperature)
    if kind == "mse":
        return np.mean((t - p) ** 2)
    return temperature**2 * np.mean(t * np.log(t / p) + (1 - t) * np.log((1 - t) / (1 - p)))


def cross_entropy(logits):
    p = sigmoid(logits)
    return -np.mean(LABELS * np.log(p) + (1 - LABELS) * np.log(1 - p))


@pytest.mark.parametrize("kind", ["mse", "kl"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_is_the_formula(kind, temperature):
    found = divergence(LOGITS[0], LOGITS, kind=kind, temperature=temperature)
    expected = [plain_divergence(LOGITS[0], z, kind, temperature) for z in LOGITS]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("kind", ["mse", "kl"])
def test_far_logits_stay_finite_in_value_and_gradient_and_the_teacher_gets_none(kind):
    teacher = np.array([60.0, -60.0, 60.0], np.float32)
    student = np.array([[-60.0, -60.0, 60.0]], np.float32)

    def total(teacher, student):
        return divergence(teacher, student, kind=kind, temperature=1.0).sum()

    value, (by_teacher, by_student) = jax.value_and_grad(total, argnums=(0, 1))(teacher, student)
    assert np.isfinite(value)
    assert value > 0
    assert np.isfinite(by_student).all()
    assert not np.any(by_teacher)


def test_online_kd_is_its_formula():
    options = {"weight": 0.7, "temperature": 2.0, "divergence": "kl"}
    loss, terms = transfer.make("online_kd", **options)(Prediction(LOGITS, LOGITS[0]), LABELS)
    teacher = LOGITS.mean(axis=0)
    ctr = np.mean([cross_entropy(z) for z in LOGITS])
    kd = 0.7 * np.mean([plain_divergence(teacher, z, "kl", 2.0) for z in LOGITS])
    np.testing.assert_allclose((loss, terms.ctr, terms.kd), (ctr + kd, ctr, kd), rtol=1e-9)
    assert terms.dml == 0
    np.testing.assert_allclose(terms.teaching_weights, [1 / len(LOGITS)] * len(LOGITS))
    scores = [np.mean(np.where(LABELS == 1, sigmoid(z), 1 - sigmoid(z))) for z in LOGITS]
    np.testing.assert_allclose(terms.scores, scores, rtol=1e-9)
    assert not np.any(terms.peer_weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"divergence": "js"}, "divergence 'js' is unknown"),
        ({"temperature": 0.0}, r"temperature = 0.0 must be above 0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    for name in ("online_kd", "kdcl"):
        with pytest.raises(ValueError, match=message):
            transfer.make(name, **options)(Prediction(LOGITS, LOGITS[0]), LABELS)
