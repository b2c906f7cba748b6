"""Keys for what initialises layers."""

from typing import Any

import jax
from flax import nnx


class _Stream(nnx.RngStream):
    def __call__(self) -> jax.Array:
        key = jax.random.fold_in(self.key[...], self.count[...])
        self.count.set_value(self.count[...] + 1)
        return key


def make_rngs(key: jax.Array | int) -> nnx.Rngs:
    """Make `nnx.Rngs(key)`: the same keys, in a traced program for a quarter of the time.

    Where nnx counts a key (flax 0.12), it has JAX print the whole program so far, for an error that it drops.
    """
    rngs: Any = nnx.Rngs(key)
    rngs.default = _Stream(key, tag="default")
    return rngs
