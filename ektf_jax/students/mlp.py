"""The multilayer perceptron student (EKTF_MLP)."""

from collections.abc import Sequence

import jax
from flax import nnx

from ektf_jax.layers.blocks import DNN, flatten


class MLP(DNN):
    """MLP over the concatenated field embeddings. [B, F, D] -> logits [B].

    The paper's homogeneous student: FuxiCTR's MLP_Block with BatchNorm before the activation and dropout
    after it, by default with the published 400-400-400 units (Section 4.1.5, authors' run logs).
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        hidden_units: Sequence[int] = (400, 400, 400),
        dropout: float = 0.1,
        batch_norm: bool = True,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            num_fields * embedding_dim, hidden_units, dropout=dropout, batch_norm=batch_norm, rngs=rngs
        )
        self.hidden_size = hidden_units[-1]

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        return super().__call__(flatten(embeddings), train=train, key=key)

    def hidden(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """The last hidden state [B, hidden_size], for ensembles fused by concatenation."""
        return self.hidden_layers(flatten(embeddings), train=train, key=key)
