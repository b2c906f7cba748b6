"""xDeepFM (Lian et al., 2018)."""

from collections.abc import Sequence

import jax
from flax import nnx

from ektf_jax.layers.blocks import DNN, Wide, flatten
from ektf_jax.students.cin import CIN


class XDeepFM(nnx.Module):
    """A linear part, a compressed interaction network and an MLP, added: [B, F, D] -> logits [B].

    `wide` is what the linear part reads: the shared "embeddings" (the authors' xDeepFM), or a weight of
    its own for each feature ("ids", FuxiCTR's).
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        wide: str = "embeddings",
        cin_hidden_units: Sequence[int] = (16, 16, 16),
        hidden_units: Sequence[int] = (400, 400, 400),
        dropout: float = 0.1,
        batch_norm: bool = True,
        rngs: nnx.Rngs,
    ):
        self.embedding_dim = embedding_dim
        self.wide = Wide(num_fields, embedding_dim, source=wide, use_bias=False, rngs=rngs)
        self.wide_dim = self.wide.columns
        self.cin = CIN(num_fields, embedding_dim, cin_hidden_units=cin_hidden_units, rngs=rngs)
        self.dnn = DNN(
            num_fields * embedding_dim, hidden_units, dropout=dropout, batch_norm=batch_norm, rngs=rngs
        )

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        shared = embeddings[..., : self.embedding_dim]
        return self.wide(embeddings) + self.cin(shared) + self.dnn(flatten(shared), train=train, key=key)
