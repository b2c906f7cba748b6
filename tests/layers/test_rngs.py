"""Keys are those of `nnx.Rngs`, whose initial values are held to."""

import jax
import numpy as np
import pytest
from flax import nnx

from ektf_jax.layers.rngs import make_rngs


def drawn(make, key):
    """Keys of a stream, of another name for it, of a fork and of a part of a split, with what is counted."""
    rngs = make(key)
    keys = [
        rngs.params(),
        rngs.params(),
        rngs(),
        rngs.dropout(),
        rngs.default.fork()(),
        rngs.default.split(2).key[1],
    ]
    return jax.random.key_data(jax.numpy.stack(keys)), rngs.default.count[...]


@pytest.mark.parametrize("key", [7, jax.random.key(7)])
def test_the_keys_are_nnxs(key):
    for ours, theirs in zip(drawn(make_rngs, key), drawn(nnx.Rngs, key), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_so_they_are_in_a_traced_program():
    key = jax.random.key(3)
    traced = jax.jit(lambda key: drawn(make_rngs, key))(key)
    for ours, theirs in zip(traced, drawn(nnx.Rngs, key), strict=True):
        np.testing.assert_array_equal(ours, theirs)
