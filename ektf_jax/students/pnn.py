"""Product-based neural network with inner products (Qu et al., 2016)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ektf_jax.students.layers import DNN, flatten


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

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        products = embeddings @ embeddings.swapaxes(1, 2)
        first, second = np.triu_indices(embeddings.shape[1], k=1)
        inputs = jnp.concatenate([flatten(embeddings), products[:, first, second]], axis=1)
        return self.dnn(inputs, train=train, key=key)
