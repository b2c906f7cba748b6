import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from ektf_jax import losses, transfer
from ektf_jax.ensemble import Prediction
from ektf_jax.transfer import TeacherOutputs
from ektf_jax.transfer.eckd import Guided

RNG = np.random.default_rng(0)
STUDENTS = RNG.normal(size=(3, 16)).astype(np.float32)
# Not a function of the students, so that a loss of the wrong prediction shows.
PREDICTION = Prediction(STUDENTS, RNG.normal(size=16).astype(np.float32))
LABELS = RNG.integers(0, 2, 16).astype(np.float32)


def evaluated(loss_fn, prediction=PREDICTION):
    """((loss, terms), gradient) in one compilation."""
    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(prediction, LABELS)


@pytest.mark.parametrize(
    ("name", "function", "options"),
    [
        ("ektf", losses.ektf_loss, {}),
        ("ektf", losses.ektf_loss, {"teacher": "mean_prob", "dml": False, "stop_gradient": False}),
        ("kd", losses.kd_ctr_loss, {"weights": 1.0}),
        ("kd", losses.kd_ctr_loss, {"weights": 0.7, "teacher": "mean_prob", "stop_gradient": False}),
        ("dml", losses.dml_ctr_loss, {}),
        ("dml", losses.dml_ctr_loss, {"reduction": "mean", "stop_gradient": False}),
    ],
)
def test_a_method_is_its_loss_of_the_students(name, function, options):
    def direct(prediction, labels):
        return function(prediction.students, labels, **options)

    @jax.jit
    def both(prediction):
        losses = (transfer.make(name, **options), direct)
        return [jax.value_and_grad(loss, has_aux=True)(prediction, LABELS) for loss in losses]

    (result, gradient), (expected, expected_gradient) = both(PREDICTION)
    jax.tree.map(np.testing.assert_array_equal, result, expected)
    np.testing.assert_array_equal(gradient.students, expected_gradient.students)
    assert np.any(gradient.students)
    assert not np.any(gradient.ensemble)


def test_none_is_the_cross_entropy_of_the_ensemble():
    (loss, terms), gradient = evaluated(transfer.make("none"))
    p = 1 / (1 + np.exp(-PREDICTION.ensemble.astype(float)))
    np.testing.assert_allclose(loss, -np.mean(LABELS * np.log(p) + (1 - LABELS) * np.log(1 - p)), rtol=1e-6)
    np.testing.assert_allclose(gradient.ensemble, (p - LABELS) / len(LABELS), atol=1e-7)
    assert not np.any(gradient.students)
    assert terms.ctr == loss
    assert terms.kd == terms.dml == 0
    np.testing.assert_allclose(terms.scores, losses.exam_scores(jnp.asarray(STUDENTS), LABELS), rtol=1e-6)
    assert not np.any(terms.teaching_weights)
    assert not np.any(terms.peer_weights)


def test_none_works_without_students_as_concat_has_it():
    (loss, terms), gradient = evaluated(
        transfer.make("none"), PREDICTION._replace(students=np.zeros((0, 16), np.float32))
    )
    (expected, _), expected_gradient = evaluated(transfer.make("none"))
    assert loss == expected
    np.testing.assert_array_equal(gradient.ensemble, expected_gradient.ensemble)
    assert [terms.scores.shape, terms.teaching_weights.shape, terms.peer_weights.shape] == [
        (0,),
        (0,),
        (0, 0),
    ]


def arguments(name):
    """Of a method's loss: those with teachers take what they say, and one student here."""
    if not transfer.METHODS[name].least_teachers:
        return PREDICTION, LABELS
    gate = np.zeros(1, np.float32)
    prediction = Guided(STUDENTS[:1], STUDENTS[0], None, gate, gate, (None,))
    return prediction, LABELS, TeacherOutputs(STUDENTS[1:2], (None,))


@pytest.mark.parametrize("name", transfer.METHODS)
def test_a_method_that_needs_peers_does_nothing_without_them(name):
    """By which a report calls one student alone a single model."""
    method = transfer.METHODS[name]
    if name == "none" or method.least_teachers:
        assert not method.needs_peers
        return
    assert method.needs_peers
    alone = Prediction(STUDENTS[:1], STUDENTS[0])

    def of_students(loss_fn):
        return lambda logits: loss_fn(Prediction(logits, logits[0]), LABELS)[0]

    found, expected = (jax.grad(of_students(transfer.make(of)))(alone.students) for of in (name, "none"))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", transfer.METHODS)
def test_all_methods_report_the_same_terms_whatever_they_leave_out(name):
    loss, terms = jax.eval_shape(transfer.make(name), *arguments(name))
    students = len(arguments(name)[0].students)
    assert loss.shape == ()
    assert {field: (value.shape, value.dtype) for field, value in terms._asdict().items()} == {
        "ctr": ((), jnp.float32),
        "kd": ((), jnp.float32),
        "dml": ((), jnp.float32),
        "scores": ((students,), jnp.float32),
        "teaching_weights": ((students,), jnp.float32),
        "peer_weights": ((students,) * 2, jnp.float32),
    }


@pytest.mark.parametrize("name", transfer.METHODS)
def test_the_base_config_holds_options_that_every_method_takes(name):
    options = base.get_config().transfer[name].to_dict()
    loss, _ = jax.eval_shape(transfer.make(name, **options), *arguments(name))
    assert loss.shape == ()


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="transfer method 'ekft' is unknown: use one of ektf, kd, dml, onl"):
        transfer.make("ekft")


@pytest.mark.parametrize("name", ["ektf", "kd", "dml", "none"])
def test_to_check_a_method_compiles_nothing(name, caplog):
    method = transfer.make(name)
    with jax.log_compiles():
        method.check(5)
        assert "Finished tracing" in caplog.text
    assert "Finished XLA compilation" not in caplog.text
