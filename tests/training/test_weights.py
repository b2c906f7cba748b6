"""That weights of rows reach what weighs by them: losses, metrics, what decides a run."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import polars as pl
import pytest
from flax import nnx

from ektf_jax import losses, metrics, sharding, transfer
from ektf_jax.config import Config
from ektf_jax.data.encoded import Split
from ektf_jax.data.loader import Batch, evaluation_batches
from ektf_jax.data.schema import make_fields
from ektf_jax.ensemble import Ensemble, Prediction
from ektf_jax.errors import InputError
from ektf_jax.runs import ensembles, importance, judge
from ektf_jax.students.fcn import FCN
from ektf_jax.training import evaluate, loop, rundata, teachers
from ektf_jax.training.step import init_state, make_train_step
from tests.bundle import shop

FIELDS = make_fields([("a", 9, 1), ("b", 9, 1)])
ROWS = 12
RNG = np.random.default_rng(0)
IDS = np.stack([RNG.integers(1, 9, ROWS), RNG.integers(10, 18, ROWS)], axis=1).astype(np.int32)
LABELS = np.array([0, 1] * 6, np.float32)
WEIGHTS = np.array([0, 1, 2, 3, 1, 0, 0, 1, 2, 0, 1, 1], np.float32)
TWICE = np.repeat(np.arange(ROWS), WEIGHTS.astype(int))
LOGITS = RNG.normal(size=(3, ROWS)).astype(np.float32)
SPLIT = Split(IDS, LABELS, WEIGHTS)


def make_model(passes):
    """Students with a loss of their own, in which no row sees another."""
    few = {"num_deep_layers": 1, "num_shallow_layers": 1, "batch_norm": False}
    students = [(partial(FCN, deep_dropout=0.0, shallow_dropout=0.0, **few), 1)]
    return Ensemble(FIELDS, students, embedding_dim=4, passes=passes, key=jax.random.key(0))


def test_own_losses_and_self_transfer_weigh():
    model, key = make_model(2), jax.random.key(1)
    model.embedding.table[...] = 2 * jax.random.normal(key, model.embedding.table.shape)
    graphdef, state = nnx.split(model)

    @jax.jit
    def own(rows, weights):
        alone = nnx.merge(graphdef, state)
        return alone(
            jnp.asarray(IDS)[rows],
            train=True,
            key=key,
            labels=jnp.asarray(LABELS)[rows],
            sample_weights=weights,
        ).auxiliary_losses

    found = own(np.arange(ROWS), WEIGHTS)
    rows, plain = own(TWICE, np.ones(ROWS, np.float32)), own(np.arange(ROWS), np.ones(ROWS, np.float32))
    np.testing.assert_allclose(found, rows, rtol=1e-5)
    assert abs(plain - rows).max() > 1e-3


def test_a_step_hands_weights_on_where_there_are_some():
    asked = []

    def loss_fn(prediction, labels, **more):
        asked.append({name: value.shape for name, value in more.items()})
        return transfer.make("ektf")(prediction, labels, **more)

    graphdef, state = init_state(make_model(1), optax.sgd(0.1), jax.random.key(2))
    step = make_train_step(graphdef, optax.sgd(0.1), loss_fn, l2=0.0)
    for batch in (Batch(IDS, LABELS), Batch(IDS, LABELS, WEIGHTS)):
        jax.eval_shape(step, state, batch)
    assert asked == [{}, {"sample_weights": (ROWS,)}]


def test_blocks_of_a_batch_have_the_mean_of_all_of_it():
    """As devices have them that see their own rows alone, also where a block has no weight."""
    weights = np.where(np.arange(ROWS) < 3, 0, WEIGHTS)

    def block(logits, labels, weights):
        return losses.ektf_loss(logits, labels, axis_name="x", sample_weights=weights)[0]

    blocks = [np.stack(np.split(array, 4, axis=-1)) for array in (LOGITS, LABELS, weights)]
    found = jnp.mean(jax.jit(jax.vmap(block, axis_name="x"))(*blocks))
    expected, _ = jax.jit(losses.ektf_loss)(LOGITS, LABELS, sample_weights=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_batch_without_any_weight_teaches_nothing():
    def loss(logits):
        return losses.ektf_loss(logits, LABELS, sample_weights=np.zeros(ROWS))[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(LOGITS)
    assert value == 0
    assert not gradient.any()


def test_rows_on_a_mesh_have_their_weights():
    places = np.array([4, 0, 9])
    batch = sharding.make_gather(sharding.make_mesh())(SPLIT, places)
    np.testing.assert_array_equal(batch.weights, WEIGHTS[places])
    assert sharding.make_gather(sharding.make_mesh())(SPLIT._replace(weights=None), places).weights is None


def test_evaluations_weigh():
    logits = np.concatenate([LOGITS, LOGITS.mean(axis=0)[None]])
    found = evaluate.evaluate_logits(SPLIT, logits)
    twice = evaluate.evaluate_logits(Split(IDS[TWICE], LABELS[TWICE]), logits[:, TWICE])
    for name in ("auc", "logloss"):
        assert found["ensemble"][name] == pytest.approx(twice["ensemble"][name], rel=1e-9)
        assert found["students"][1][name] == pytest.approx(twice["students"][1][name], rel=1e-9)
    predictions = judge.Predictions(SPLIT, {0: LOGITS[0]})
    (told,) = judge.judge(SimpleNamespace(), predictions, ["auc"])
    assert told == {"predictor": 0, "auc": metrics.auc(LABELS, LOGITS[0], weights=WEIGHTS)}
    assert judge._with_intervals(LABELS, LOGITS[0], ["auc"], WEIGHTS) == {"auc": told["auc"]}
    assert importance.values(SPLIT, LOGITS[:1], "auc") == [told["auc"]]


def test_students_are_selected_by_weights():
    """Of two candidates the one that is right where it counts."""
    right, wrong = np.where(LABELS == 1, 2.0, -2.0), np.where(LABELS == 1, -2.0, 2.0)
    first = np.arange(ROWS) < 8
    candidates = np.stack([np.where(first, right, wrong), np.where(first, wrong, right)])
    weights = np.where(first, 1.0, 10.0)
    assert ensembles.select(candidates, LABELS, "logloss").argmax() == 0
    assert ensembles.select(candidates, LABELS, "logloss", sample_weights=weights).argmax() == 1


def test_what_a_method_monitors_weighs_without_padding():
    told = RNG.normal(size=ROWS)
    method = SimpleNamespace(monitored=lambda prediction, outputs: prediction)
    for split, expected in (
        (SPLIT, np.average(told, weights=WEIGHTS)),
        (SPLIT._replace(weights=None), told.mean()),
    ):
        parts = iter([told[:5], told[5:10], np.array([*told[10:], 9, 9, 9])])
        found = teachers.monitored(
            method,
            lambda *_, parts=parts: next(parts),
            lambda batch: None,
            *(None, None),
            evaluation_batches(split, 5),
        )
        assert found == pytest.approx(expected, rel=1e-12)


@dataclasses.dataclass(frozen=True)
class Alike(transfer.Method):
    """A method of one's own of before there were weights."""

    def __call__(self, prediction: Prediction, labels: jax.Array) -> transfer.method.Loss:
        return transfer.make("none")(prediction, labels)


def test_a_metric_that_takes_no_weights_is_named_before_the_first_step(tmp_path, monkeypatch):
    rows = shop.rows(300, 0)
    rows = rows.with_columns(pl.Series("times", np.arange(300) % 4))
    spec = dataclasses.replace(shop.SPEC, weight="times")
    shop.prepare(tmp_path / "data", rows, spec=spec, rows_of=lambda *_: rows)
    config = Config.from_dict(shop.config(tmp_path / "data"))
    assert rundata.opened(config, tmp_path / "data")[0].weighted
    own = metrics.Metric(lambda labels, logits: 0.0, "higher")
    monkeypatch.setitem(metrics.METRICS, "own", own)
    with pytest.raises(InputError, match="own takes no weights, and the rows have some"):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setitem(metrics.METRICS, "own", own._replace(trained=False))
    rundata.opened(config, tmp_path / "data")


def test_a_dataset_with_weights_and_what_cannot_be_trained_on_it(tmp_path, tiny_config):
    config = Config.from_dict(tiny_config())
    rundata._check_takes_weights(config, tmp_path)
    name = f"{__name__}:Alike"
    own = dataclasses.replace(config, transfer=dataclasses.replace(config.transfer, name=name))
    with pytest.raises(InputError, match="Alike' takes no sample_weights, but"):
        rundata._check_takes_weights(own, tmp_path)
    rundata.check_classes(tmp_path, "valid", SPLIT)
    with pytest.raises(InputError, match="valid: all labels of rows with a weight above 0 are 1"):
        rundata.check_classes(tmp_path, "valid", SPLIT._replace(weights=LABELS))
