"""The cross network of DCNv2 without its deep part (Wang et al., 2021)."""

import jax
from flax import nnx

from ektf_jax.layers.blocks import check_layers, flatten, linear


class CrossLayersV2(nnx.Module):
    """x <- x + x0 * (W x + b), once per layer, with full matrices W. [B, N] -> [B, N]."""

    def __init__(self, width: int, num_layers: int, *, rngs: nnx.Rngs):
        check_layers("num_cross_layers", num_layers)
        self.linears = nnx.List(linear(width, width, rngs=rngs) for _ in range(num_layers))

    def __call__(self, x0: jax.Array) -> jax.Array:
        x = x0
        for layer in self.linears:
            x = x + x0 * layer(x)
        return x


class CrossNetV2(nnx.Module):
    """Cross layers and a linear output: [B, F, D] -> logits [B]. FuxiCTR's DCNv2, "crossnet_only"."""

    def __init__(self, num_fields: int, embedding_dim: int, *, num_cross_layers: int = 3, rngs: nnx.Rngs):
        width = num_fields * embedding_dim
        self.cross_layers = CrossLayersV2(width, num_cross_layers, rngs=rngs)
        self.output = linear(width, 1, rngs=rngs)

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        return self.output(self.cross_layers(flatten(embeddings)))[:, 0]
