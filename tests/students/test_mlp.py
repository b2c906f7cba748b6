"""The MLP against a float64 transcription of FuxiCTR's MLP_Block: Linear, BatchNorm, ReLU, dropout."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx

from ektf_jax.ensemble import count_parameters
from ektf_jax.students import REGISTRY
from ektf_jax.students.mlp import MLP

FIELDS, DIM, UNITS, ROWS = 3, 2, (5, 4), 16
EMBEDDINGS = np.random.default_rng(0).normal(size=(ROWS, FIELDS, DIM)).astype(np.float32)
KEY = jax.random.key(0)


def make_mlp(**options):
    """An MLP none of whose values are what initialisation makes them: scales, biases, statistics, ..."""
    model = MLP(FIELDS, DIM, hidden_units=UNITS, rngs=nnx.Rngs(0), **options)
    rng = np.random.default_rng(1)
    graphdef, state = nnx.split(model)
    random = jax.tree.map(lambda x: rng.uniform(0.5, 2, x.shape).astype(np.float32) * _sign(rng, x), state)
    for norm in random["hidden_layers"].get("norms", {}).values():
        norm["var"] = nnx.BatchStat(abs(norm["var"][...]))
    return nnx.merge(graphdef, random)


def _sign(rng, x):
    return rng.choice([-1, 1], x.shape).astype(np.float32)


def values(model):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), nnx.to_pure_dict(nnx.state(model)))


def transcribed(model, embeddings, *, train):
    """Logits [B], the last hidden state [B, H] and the running (mean, var) of every layer, in float64."""
    state = values(model)
    layers = state["hidden_layers"]
    x = embeddings.astype(np.float64).reshape(len(embeddings), -1)
    running = []
    for i in range(len(UNITS)):
        x = x @ layers["linears"][i]["kernel"] + layers["linears"][i]["bias"]
        if layers.get("norms"):
            norm = layers["norms"][i]
            mean, var = norm["mean"], norm["var"]
            if train:
                mean, var = x.mean(axis=0), ((x - x.mean(axis=0)) ** 2).mean(axis=0)
                running.append((0.9 * norm["mean"] + 0.1 * mean, 0.9 * norm["var"] + 0.1 * var))
            x = (x - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]
        x = np.maximum(x, 0)
    return (x @ state["output"]["kernel"] + state["output"]["bias"])[:, 0], x, running


@partial(jax.jit, static_argnames=("train", "method"))
def call(model, embeddings, *, train=False, key=None, method="__call__"):
    output = getattr(model, method)(embeddings, train=train, key=key)
    return output, nnx.state(model, nnx.BatchStat)


@pytest.fixture(scope="module")
def model():
    return make_mlp(dropout=0.0)


def test_evaluation_agrees_with_the_transcription(model):
    logits, _ = call(model, EMBEDDINGS)
    expected, _, _ = transcribed(model, EMBEDDINGS, train=False)
    assert logits.shape == (ROWS,)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-5)


def test_training_agrees_with_the_transcription_and_moves_the_running_statistics(model):
    logits, statistics = call(model, EMBEDDINGS, train=True)
    expected, _, running = transcribed(model, EMBEDDINGS, train=True)
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)
    norms = nnx.to_pure_dict(statistics)["hidden_layers"]["norms"]
    assert len(norms) == len(running) == 2
    for i, (mean, var) in enumerate(running):
        np.testing.assert_allclose(norms[i]["mean"], mean, atol=1e-5)
        np.testing.assert_allclose(norms[i]["var"], var, rtol=1e-5)


def test_evaluation_leaves_the_running_statistics_alone(model):
    _, statistics = call(model, EMBEDDINGS)
    before = jax.tree.leaves(nnx.state(model, nnx.BatchStat))
    for old, new in zip(before, jax.tree.leaves(statistics), strict=True):
        np.testing.assert_array_equal(old, new)


def test_rows_are_predicted_independently_in_evaluation(model):
    logits, _ = call(model, EMBEDDINGS)
    backwards, _ = call(model, EMBEDDINGS[::-1])
    np.testing.assert_allclose(backwards[::-1], logits, rtol=1e-6)


def test_hidden_is_the_last_hidden_state(model):
    hidden, _ = call(model, EMBEDDINGS, method="hidden")
    assert hidden.shape == (ROWS, model.hidden_size)
    np.testing.assert_allclose(hidden, transcribed(model, EMBEDDINGS, train=False)[1], atol=1e-4)


def test_without_batch_norm_training_and_evaluation_agree_with_the_transcription():
    model = make_mlp(dropout=0.0, batch_norm=False)
    assert not jax.tree.leaves(nnx.state(model, nnx.BatchStat))
    expected, _, _ = transcribed(model, EMBEDDINGS, train=False)
    for train in (False, True):
        np.testing.assert_allclose(call(model, EMBEDDINGS, train=train)[0], expected, rtol=1e-5, atol=1e-4)


def test_dropout_follows_its_key_and_only_in_training():
    model = make_mlp(dropout=0.5)
    first, second = jax.random.split(KEY)
    training = [np.asarray(call(model, EMBEDDINGS, train=True, key=k)[0]) for k in (first, first, second)]
    np.testing.assert_array_equal(training[0], training[1])
    assert (training[0] != training[2]).mean() > 0.5
    evaluation = [np.asarray(call(model, EMBEDDINGS, key=key)[0]) for key in (first, second)]
    np.testing.assert_array_equal(*evaluation)


def test_layers_start_xavier_normal_with_zero_bias_and_neutral_batch_norm():
    state = values(MLP(7, 16, hidden_units=(300, 200), rngs=nnx.Rngs(0)))
    layers = state["hidden_layers"]
    for layer, inputs, outputs in (
        (layers["linears"][0], 112, 300),
        (layers["linears"][1], 300, 200),
        (state["output"], 200, 1),
    ):
        kernel = layer["kernel"] / np.sqrt(2 / (inputs + outputs))
        assert kernel.shape == (inputs, outputs)
        assert abs(kernel.mean()) < 4 / np.sqrt(kernel.size)
        assert abs(kernel.std() - 1) < 4 / np.sqrt(2 * kernel.size)
        # The kurtosis of a normal is 3, cut off at two deviations 2.4; that of a uniform distribution is 1.8.
        assert 2 < (kernel**4).mean() < 4
        assert not layer["bias"].any()
    for norm in layers["norms"].values():
        for name, value in {"scale": 1, "bias": 0, "mean": 0, "var": 1}.items():
            assert (norm[name] == value).all()


def test_the_published_mlp_has_the_published_number_of_parameters():
    assert count_parameters(nnx.eval_shape(lambda: MLP(7, 16, rngs=nnx.Rngs(0)))) == 368_801
    # 112 * 400 + 400 + 2 * (400 * 400 + 400) + 401 without the 2 * 3 * 400 of BatchNorm.
    without = nnx.eval_shape(lambda: MLP(7, 16, batch_norm=False, rngs=nnx.Rngs(0)))
    assert count_parameters(without) == 366_401


def test_the_registry_knows_it():
    assert REGISTRY["mlp"] is MLP
