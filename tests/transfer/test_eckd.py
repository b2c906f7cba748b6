"""ECKD against a float64 transcription; gradients reach gate and maps, and no teacher."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ektf_jax import transfer
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.ensemble import Ensemble
from ektf_jax.students.mlp import MLP
from ektf_jax.transfer import TeacherOutputs
from ektf_jax.transfer.eckd import Guided, Pupil, distillation, gate

TEACHERS, ROWS = 3, 16
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, ROWS).astype(np.float64)
OUTPUTS = TeacherOutputs(
    RNG.normal(size=(TEACHERS, ROWS)) * 2, (RNG.normal(size=(ROWS, 5)), None, RNG.normal(size=(ROWS, 7)))
)
STUDENT = RNG.normal(size=(1, ROWS))
PREDICTION = Guided(
    STUDENT,
    STUDENT[0],
    None,
    RNG.normal(size=TEACHERS),
    RNG.normal(size=TEACHERS),
    (RNG.normal(size=(ROWS, 5)), None, RNG.normal(size=(ROWS, 7))),
)


@pytest.fixture(autouse=True, scope="module")
def float64():
    with jax.enable_x64(True):
        yield


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def cross_entropy(target, p):
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def transcribed(soft_weight, hint_weight, temperature):
    """Loss and its distilled part, sample by sample; and the soft part of it."""
    ctr, kd, soft_part = [], [], []
    for b in range(ROWS):
        scores = np.exp([PREDICTION.gate_scale[i] * OUTPUTS.logits[i, b] + PREDICTION.gate_bias[i]
                         for i in range(TEACHERS)])  # fmt: skip
        alpha = scores / scores.sum()
        soft = hint = 0.0
        for i in range(TEACHERS):
            teacher, student = (sigmoid(z[b] / temperature) for z in (OUTPUTS.logits[i], STUDENT[0]))
            soft += alpha[i] * cross_entropy(teacher, student)
            hidden, guess = OUTPUTS.hidden[i], PREDICTION.hints[i]
            if hidden is not None:
                assert guess is not None
                gap = hidden[b] - guess[b]
                hint += alpha[i] * (gap @ gap) / len(gap)
        ctr.append(cross_entropy(LABELS[b], sigmoid(STUDENT[0, b])))
        kd.append(soft_weight * soft + hint_weight * hint)
        soft_part.append(soft)
    return np.mean(ctr), np.mean(kd), soft_part


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.7, 0.3, 2.5), (0.0, 0.4, 1.0)])
def test_it_is_its_formula(weights):
    options = dict(zip(("soft_weight", "hint_weight", "temperature"), weights, strict=True))
    loss, terms = transfer.make("eckd", **options)(PREDICTION, LABELS, OUTPUTS)
    ctr, kd, soft = transcribed(*weights)
    np.testing.assert_allclose((loss, terms.ctr, terms.kd), (ctr + kd, ctr, kd), rtol=1e-9)
    (found,) = distillation(PREDICTION, OUTPUTS, temperature=weights[-1])
    np.testing.assert_allclose(found, soft, rtol=1e-9)


def test_the_gate_weighs_the_teachers_per_sample():
    weights = np.asarray(gate(PREDICTION, OUTPUTS))
    np.testing.assert_allclose(weights.sum(axis=0), 1, rtol=1e-12)
    assert np.ptp(weights, axis=1).min() > 0.01


def test_gradients_reach_student_gate_and_hints_and_no_teacher():
    loss = transfer.make("eckd")

    def total(prediction, outputs):
        return loss(prediction, LABELS, outputs)[0]

    by_prediction, by_outputs = jax.grad(total, argnums=(0, 1))(PREDICTION, OUTPUTS)
    for name in ("students", "gate_scale", "gate_bias"):
        assert np.all(getattr(by_prediction, name) != 0), name
    assert all(np.all(hint != 0) for hint in by_prediction.hints if hint is not None)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(by_outputs))


@pytest.mark.parametrize(
    ("options", "prediction", "message"),
    [
        ({"temperature": 0.0}, PREDICTION, "temperature = 0.0 must be above 0"),
        ({}, PREDICTION._replace(students=np.zeros((2, ROWS))), "for one student, not 2"),
    ],
)
def test_what_does_not_suit_it_is_refused(options, prediction, message):
    with pytest.raises(ValueError, match=message):
        transfer.make("eckd", **options)(prediction, LABELS, OUTPUTS)


SCHEMA = Schema("tiny", make_fields([("a", 4, 1), ("b", 5, 2)]), {}, {})
IDS = jnp.asarray(np.stack([RNG.integers(1, 4, ROWS), *RNG.integers(5, 9, (2, ROWS))], axis=1), jnp.int32)


@pytest.fixture
def float32():
    with jax.enable_x64(False):
        yield


def make_pupil(stack="scan"):
    student = partial(MLP, hidden_units=(6, 4), dropout=0.3)
    ensemble = Ensemble(SCHEMA.fields, [(student, 1)], embedding_dim=3, stack=stack, key=jax.random.key(0))
    ensemble.embedding.table[...] *= 1e4
    return Pupil(ensemble, (5, 0, 7), key=jax.random.key(1))


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("stack", ["scan", "vmap"])
def test_a_pupil_predicts_and_moves_statistics_as_its_student_does(stack):
    pupil, key = make_pupil(stack), jax.random.key(2)
    student = nnx.clone(pupil.ensemble)
    for train in (True, False):
        expected, found = student(IDS, train=train, key=key), pupil(IDS, train=train, key=key)
        np.testing.assert_array_equal(found.students, expected.students)
        np.testing.assert_array_equal(found.ensemble, expected.ensemble)
        assert [hint is None for hint in found.hints] == ([False, True, False] if train else [True] * 3)
    theirs, ours = (nnx.to_pure_dict(nnx.state(m, nnx.BatchStat)) for m in (student, pupil.ensemble))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    np.testing.assert_array_equal(pupil(IDS).gate_scale, np.zeros(3))


@pytest.mark.usefixtures("float32")
def test_a_hint_maps_the_hidden_state_behind_the_logits():
    pupil, key = make_pupil(), jax.random.key(2)
    before = nnx.clone(pupil)
    prediction = pupil(IDS, train=True, key=key)
    (hidden,) = nnx.clone(before.ensemble).hidden(IDS, train=True, key=key)
    output = nnx.to_pure_dict(nnx.state(before.ensemble.groups[0].students.output))
    logits = hidden[0] @ output["kernel"][0] + output["bias"][0]
    np.testing.assert_allclose(logits[:, 0], prediction.students[0], rtol=1e-4, atol=1e-6)
    for hint, layer in zip((prediction.hints[0], prediction.hints[2]), pupil.maps, strict=True):
        np.testing.assert_allclose(hint, hidden[0] @ layer.kernel[...], rtol=1e-4, atol=1e-6)
        assert list(nnx.to_pure_dict(nnx.state(layer))) == ["kernel"]  # W_i v, and nothing else to learn


def test_of_several_students_the_loss_is_the_mean_of_theirs():
    method, students = transfer.make("eckd", hint_weight=0.0, soft_weight=0.7), RNG.normal(size=(3, ROWS))
    several = PREDICTION._replace(students=students, hints=(None,) * TEACHERS)
    loss, terms = method(several, LABELS, OUTPUTS)
    alone = [method(several._replace(students=one[None]), LABELS, OUTPUTS) for one in students]
    np.testing.assert_allclose(loss, np.mean([one for one, _ in alone]), rtol=1e-12)
    np.testing.assert_allclose(terms.kd, np.mean([terms.kd for _, terms in alone]), rtol=1e-12)
    monitored = [method.monitored(several._replace(students=one[None]), OUTPUTS) for one in students]
    np.testing.assert_allclose(method.monitored(several, OUTPUTS), np.mean(monitored, axis=0), rtol=1e-12)
