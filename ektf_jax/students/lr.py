"""Logistic regression."""

import jax
from flax import nnx

from ektf_jax.layers.blocks import Wide


class LR(nnx.Module):
    """Logistic regression: [B, F, D] -> logits [B].

    As a student it is linear in the shared embeddings (the authors' LogisticRegression). Alone, with
    wide = "ids" and an embedding dimension of 0, it is FuxiCTR's LR: a weight for each feature and a bias.
    """

    def __init__(self, num_fields: int, embedding_dim: int, *, wide: str = "embeddings", rngs: nnx.Rngs):
        self.wide = Wide(num_fields, embedding_dim, source=wide, use_bias=True, rngs=rngs)
        self.wide_dim = self.wide.columns

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        return self.wide(embeddings)
