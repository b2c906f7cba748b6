"""DCNv2, parallel (Wang et al., 2021)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import HiddenLayers, flatten, linear
from ektf_jax.students.crossnetv2 import CrossLayersV2


class DCNv2(nnx.Module):
    """Cross layers with full matrices beside an MLP, concatenated: [B, F, D] -> logits [B].

    FuxiCTR's DCNv2, "parallel", and the authors' DCNv2, whose output lists the MLP's units first.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        num_cross_layers: int = 3,
        hidden_units: Sequence[int] = (400, 400, 400),
        dropout: float = 0.1,
        batch_norm: bool = True,
        rngs: nnx.Rngs,
    ):
        width = num_fields * embedding_dim
        self.cross_layers = CrossLayersV2(width, num_cross_layers, rngs=rngs)
        self.hidden_layers = HiddenLayers(
            width, hidden_units, dropout=dropout, batch_norm=batch_norm, rngs=rngs
        )
        self.output = linear(width + hidden_units[-1], 1, rngs=rngs)

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        x0 = flatten(embeddings)
        deep = self.hidden_layers(x0, train=train, key=key)
        return self.output(jnp.concatenate([self.cross_layers(x0), deep], axis=1))[:, 0]
