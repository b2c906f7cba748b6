"""KD-DAGFM's losses against a float64 transcription."""

import jax
import numpy as np
import pytest

from ektf_jax import transfer
from ektf_jax.ensemble import Prediction
from ektf_jax.transfer import TeacherOutputs

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(2, 16))
OUTPUTS = TeacherOutputs(RNG.normal(size=(1, 16)), (None,))
LABELS = RNG.integers(0, 2, 16).astype(np.float64)


@pytest.fixture(autouse=True, scope="module")
def float64():
    with jax.enable_x64(True):
        yield


def cross_entropy(logits):
    p = 1 / (1 + np.exp(-logits))
    return -np.mean(LABELS * np.log(p) + (1 - LABELS) * np.log(1 - p))


@pytest.mark.parametrize("students", [1, 2])
def test_distillation_is_its_formula(students):
    logits = LOGITS[:students]
    loss, terms = transfer.make("dagfm", ctr_weight=0.2, kd_weight=30.0)(
        Prediction(logits, logits[0]), LABELS, OUTPUTS
    )
    ctr = 0.2 * np.mean([cross_entropy(z) for z in logits])
    kd = 30.0 * np.mean([np.mean((OUTPUTS.logits[0] - z) ** 2) for z in logits])
    np.testing.assert_allclose((loss, terms.ctr, terms.kd), (ctr + kd, ctr, kd), rtol=1e-9)


def test_finetuning_is_cross_entropy():
    loss, terms = transfer.make("dagfm", stage="finetuning")(Prediction(LOGITS[:1], LOGITS[0]), LABELS)
    np.testing.assert_allclose((loss, terms.ctr), [cross_entropy(LOGITS[0])] * 2, rtol=1e-9)
    assert terms.kd == 0


def test_the_teacher_gets_no_gradient():
    def total(logits, outputs):
        return transfer.make("dagfm")(Prediction(logits, logits[0]), LABELS, outputs)[0]

    by_student, by_teacher = jax.grad(total, argnums=(0, 1))(LOGITS, OUTPUTS)
    assert np.all(by_student != 0)
    assert not np.any(by_teacher.logits)


@pytest.mark.parametrize(
    ("options", "outputs", "message"),
    [
        ({"stage": "teaching"}, OUTPUTS, "stage 'teaching' is unknown: use one of distillation, finetuning"),
        ({}, None, "distillation takes one teacher"),
        ({}, TeacherOutputs(LOGITS, (None, None)), "distillation takes one teacher"),
    ],
)
def test_what_does_not_suit_it_is_refused(options, outputs, message):
    with pytest.raises(ValueError, match=message):
        transfer.make("dagfm", **options)(Prediction(LOGITS, LOGITS[0]), LABELS, outputs)
