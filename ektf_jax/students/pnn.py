"""Product-based neural network with inner products (Qu et al., 2016)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ektf_jax.layers.blocks import DNN, flatten


class PNN(nnx.Module):
    """An MLP over the embeddings and their pairwise inner products. [B, F, D] -> logits [B].

    FuxiCTR's PNN, and the authors' ProductNetwork. Pairs are in row-major order: (0, 1), (0, 2), ...
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
        inputs = num_fields * embedding_dim + num_fields * (num_fields - 1) // 2
        self.dnn = DNN(inputs, hidden_units, dropout=dropout, batch_norm=batch_norm, rngs=rngs)
        self.hidden_size = hidden_units[-1]

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        return self.dnn(_with_products(embeddings), train=train, key=key)

    def hidden(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """The MLP's last hidden state [B, hidden_size]."""
        return self.dnn.hidden_layers(_with_products(embeddings), train=train, key=key)


def _with_products(embeddings: jax.Array) -> jax.Array:
    """[B, F, D] -> [B, F * D + F * (F - 1) / 2]."""
    products = embeddings @ embeddings.swapaxes(1, 2)
    first, second = np.triu_indices(embeddings.shape[1], k=1)
    return jnp.concatenate([flatten(embeddings), products[:, first, second]], axis=1)
