"""Deep & Cross Network, version 1 (Wang et al., 2017)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import HiddenLayers, check_layers, flatten, linear


class CrossLayer(nnx.Module):
    """One rank-1 cross: x0 times a scalar of x, plus a bias. Two [B, N] -> [B, N]."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.weight = linear(width, 1, use_bias=False, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(width, jnp.float32))

    def __call__(self, x0: jax.Array, x: jax.Array) -> jax.Array:
        return x0 * self.weight(x) + self.bias[...]


class DCN(nnx.Module):
    """Cross layers beside an MLP, concatenated: [B, F, D] -> logits [B]. FuxiCTR's DCN."""

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
        check_layers("num_cross_layers", num_cross_layers)
        width = num_fields * embedding_dim
        self.cross_layers = nnx.List(CrossLayer(width, rngs=rngs) for _ in range(num_cross_layers))
        self.hidden_layers = HiddenLayers(
            width, hidden_units, dropout=dropout, batch_norm=batch_norm, rngs=rngs
        )
        self.output = linear(width + hidden_units[-1], 1, rngs=rngs)

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        x0 = flatten(embeddings)
        cross = x0
        for layer in self.cross_layers:
            cross = cross + layer(x0, cross)
        deep = self.hidden_layers(x0, train=train, key=key)
        return self.output(jnp.concatenate([cross, deep], axis=1))[:, 0]
