"""Factorization machine (Rendle, 2010)."""

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import Wide


def pairwise_products(embeddings: jax.Array) -> jax.Array:
    """Sum of the inner products of all pairs of fields, in time linear in F. [B, F, D] -> [B]."""
    square_of_sum = jnp.sum(embeddings, axis=1) ** 2
    sum_of_squares = jnp.sum(embeddings**2, axis=1)
    return 0.5 * jnp.sum(square_of_sum - sum_of_squares, axis=-1)


class FM(nnx.Module):
    """A linear part and all pairwise inner products: [B, F, D] -> logits [B]. FuxiCTR's FM.

    `wide` is what the linear part reads: the shared "embeddings", or a weight of its own for each feature
    ("ids"), as the original does.
    """

    def __init__(self, num_fields: int, embedding_dim: int, *, wide: str = "embeddings", rngs: nnx.Rngs):
        self.embedding_dim = embedding_dim
        self.wide = Wide(num_fields, embedding_dim, source=wide, use_bias=True, rngs=rngs)
        self.wide_dim = self.wide.columns

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        return self.wide(embeddings) + pairwise_products(embeddings[..., : self.embedding_dim])
