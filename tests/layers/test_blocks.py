import jax
import numpy as np
import pytest
from flax import nnx

from ektf_jax.layers.blocks import HiddenLayers

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def transparent():
    """Three layers that pass positive numbers through unchanged, but for dropout."""
    layers = HiddenLayers(64, (64, 64, 64), dropout=0.5, batch_norm=False, rngs=nnx.Rngs(0))
    for layer in layers.linears:
        layer.kernel[...] = np.eye(64, dtype=np.float32)
    return layers


def test_each_hidden_layer_has_dropout_of_its_own(transparent):
    x = np.ones((64, 64), np.float32)
    y = np.asarray(transparent(x, train=True, key=KEY))
    # Had all three layers one mask, half of the elements would survive.
    assert set(np.unique(y)) == {0.0, 8.0}
    assert abs((y != 0).mean() - 1 / 8) < 5 * np.sqrt(1 / 8 * 7 / 8 / y.size)


def test_dropout_is_for_training_only_and_follows_its_key(transparent):
    x = np.ones((64, 64), np.float32)
    np.testing.assert_array_equal(transparent(x), x)
    np.testing.assert_array_equal(transparent(x, key=KEY), x)
    drawn = np.asarray(transparent(x, train=True, key=KEY))
    np.testing.assert_array_equal(transparent(x, train=True, key=KEY), drawn)
    assert (np.asarray(transparent(x, train=True, key=jax.random.key(1))) != drawn).mean() > 0.1


def test_dropout_comes_after_batch_norm():
    # Before it, the statistics would see dropout's zeros and its scaling.
    x = np.random.default_rng(0).normal(size=(256, 8)).astype(np.float32)
    statistics = []
    for rate in (0.0, 0.5):
        layers = HiddenLayers(8, (8,), dropout=rate, batch_norm=True, rngs=nnx.Rngs(0))
        y = np.asarray(layers(x, train=True, key=KEY))
        # BatchNorm centres what ReLU then halves.
        assert abs((y > 0).mean() - 0.5 * (1 - rate)) < 0.05
        statistics.append((layers.norms[0].mean[...], layers.norms[0].var[...]))
    np.testing.assert_array_equal(*statistics)
