"""DeepFM (Guo et al., 2017)."""

from collections.abc import Sequence

import jax
from flax import nnx

from ektf_jax.layers.blocks import DNN, flatten
from ektf_jax.students.fm import FM


class DeepFM(nnx.Module):
    """A factorization machine and an MLP, added: [B, F, D] -> logits [B]. FuxiCTR's DeepFM.

    `wide` is what the FM's linear part reads, see `FM`.
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
        self.fm = FM(num_fields, embedding_dim, wide=wide, rngs=rngs)
        self.wide_dim = self.fm.wide_dim
        self.dnn = DNN(
            num_fields * embedding_dim, hidden_units, dropout=dropout, batch_norm=batch_norm, rngs=rngs
        )

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        shared = embeddings[..., : self.fm.embedding_dim]
        return self.fm(embeddings) + self.dnn(flatten(shared), train=train, key=key)
