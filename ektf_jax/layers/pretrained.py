"""What vectors that others have trained add to the embeddings of a field's values."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import product_of_rows

_FAN_IN = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")


class Frozen(nnx.Variable[jax.Array]):
    """A value that comes with the data: it is saved with the model and never trained."""


class Pretrained(nnx.Module):
    """Vectors of a field's values, times a matrix: ids in the field [...] -> [..., columns].

    `vectors` [vocab_size, numbers] are zeros until those of a dataset take their place, and never trained if
    `frozen`. The matrix starts N(0, 1 / numbers): each column, whoever reads it, by itself.
    """

    def __init__(self, vocab_size: int, numbers: int, columns: int, *, frozen: bool, rngs: nnx.Rngs):
        kind = Frozen if frozen else nnx.Param
        self.vectors: nnx.Variable[jax.Array] = kind(jnp.zeros((vocab_size, numbers), jnp.float32))
        self.projection = nnx.Linear(
            numbers, columns, use_bias=False, kernel_init=_FAN_IN, dot_general=product_of_rows, rngs=rngs
        )

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.projection(self.vectors[...][ids])

    def take(self, columns: Sequence[int]) -> None:
        """Keep these columns, and drop the others."""
        kernel = self.projection.kernel[...][:, jnp.array(columns, int)]
        self.projection.kernel, self.projection.out_features = nnx.Param(kernel), len(columns)
