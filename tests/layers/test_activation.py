"""BatchNorm, ReLU and dropout in one, against the three in a row: values, statistics and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.layers import activation
from ektf_jax.layers.activation import EPSILON, norm_relu_dropout
from ektf_jax.layers.blocks import HiddenLayers
from ektf_jax.layers.dropout import dropout

KEY = jax.random.key(3)


def plain(x, scale, bias, rate, key):
    mean, variance = jnp.mean(x, axis=0), jnp.var(x, axis=0)
    z = (x - mean) / jnp.sqrt(variance + EPSILON) * scale + bias
    return dropout(jax.nn.relu(z), rate, key), mean, variance


def inputs(rows=50, width=7):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (rows, width))
    return jnp.asarray(x), jnp.asarray(rng.normal(size=width)), jnp.asarray(rng.normal(size=width))


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.7])
def test_equals_the_three_in_a_row(rate):
    given = (*inputs(), rate, KEY)
    for ours, expected in zip(norm_relu_dropout(*given), plain(*given), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.7])
def test_has_their_gradients(rate):
    weights = np.random.default_rng(1).normal(size=(50, 7))

    def loss(function, x, scale, bias):
        return jnp.sum(weights * jnp.sin(function(x, scale, bias, rate, KEY)[0]))

    ours = jax.grad(partial(loss, norm_relu_dropout), argnums=(0, 1, 2))(*inputs())
    expected = jax.grad(partial(loss, plain), argnums=(0, 1, 2))(*inputs())
    for mine, theirs in zip(ours, expected, strict=True):
        assert jnp.abs(theirs).max() > 0
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


def test_works_under_vmap_with_a_key_each():
    x, scale, bias = inputs()
    keys = jax.random.split(KEY, 3)
    stacked, *_ = jax.vmap(norm_relu_dropout, (None, None, None, None, 0))(x, scale, bias, 0.5, keys)
    for row, key in zip(stacked, keys, strict=True):
        np.testing.assert_allclose(row, norm_relu_dropout(x, scale, bias, 0.5, key)[0], rtol=1e-12)
    assert len({tuple(np.asarray(row == 0).ravel()) for row in stacked}) == 3


@settings(deadline=None)  # each number of rows compiles
@given(
    mean=st.floats(-1e4, 1e4),
    deviation=st.floats(1e-3, 1e3),
    rows=st.sampled_from([1, 2, 77]),
    seed=st.integers(0, 99),
)
def test_statistics_in_one_pass_are_those_of_float64(mean, deviation, rows, seed):
    """However far the mean is from zero, where a mean of squares alone would have no digits left."""
    x = (mean + deviation * np.random.default_rng(seed).standard_normal((rows, 3))).astype(np.float32)
    found_mean, variance = activation._in_one_pass(jnp.asarray(x))
    exact = np.float64(x)
    spacing = np.spacing(np.abs(x).max(axis=0))
    np.testing.assert_array_less(np.abs(found_mean - exact.mean(axis=0)), 4 * spacing)
    np.testing.assert_allclose(variance, exact.var(axis=0), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.7])
def test_what_accelerators_compute_is_what_a_cpu_does(monkeypatch, rate):
    expected = norm_relu_dropout(*inputs(), rate, KEY)
    monkeypatch.setattr(activation, "_in_two_passes", activation._in_one_pass)
    for found, exact in zip(norm_relu_dropout(*inputs(), rate, KEY), expected, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-12)


def test_a_hidden_layer_in_training_is_flax_layers_in_a_row():
    x = inputs()[0]
    block = HiddenLayers(7, (5,), dropout=0.0, batch_norm=True, rngs=nnx.Rngs(0))
    weights = nnx.state(block, (nnx.Param, nnx.BatchStat))
    nnx.update(block, jax.tree.map(lambda leaf: leaf.astype(x.dtype), weights))
    linear, norm = nnx.clone(block.linears[0]), nnx.clone(block.norms[0])
    for layer in (linear, block.linears[0]):
        assert layer.bias is not None
        layer.bias[...] = jnp.arange(5, dtype=x.dtype)
    expected = nnx.relu(norm(linear(x), use_running_average=False))
    np.testing.assert_allclose(block(x, train=True), expected, rtol=1e-6)
    np.testing.assert_allclose(block.norms[0].mean[...], norm.mean[...], rtol=1e-6)
    np.testing.assert_allclose(block.norms[0].var[...], norm.var[...], rtol=1e-6)
