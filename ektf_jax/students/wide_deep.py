"""Wide & Deep (Cheng et al., 2016)."""

from collections.abc import Sequence

import jax
from flax import nnx

from ektf_jax.layers.blocks import DNN, Wide, flatten


class WideDeep(nnx.Module):
    """A linear part and an MLP, added: [B, F, D] -> logits [B].

    `wide` is what the linear part reads: the shared "embeddings" (the authors' WideDeep), or a weight of
    its own for each feature ("ids", FuxiCTR's).
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        wide: str = "embeddings",
        hidden_units: Sequence[int] = (400, 400, 400),
        dropout: float = 0.1,
        batch_norm: bool = True,
        rngs: nnx.Rngs,
    ):
        self.embedding_dim = embedding_dim
        self.wide = Wide(num_fields, embedding_dim, source=wide, use_bias=False, rngs=rngs)
        self.wide_dim = self.wide.columns
        self.dnn = DNN(
            num_fields * embedding_dim, hidden_units, dropout=dropout, batch_norm=batch_norm, rngs=rngs
        )

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        shared = embeddings[..., : self.embedding_dim]
        return self.wide(embeddings) + self.dnn(flatten(shared), train=train, key=key)
