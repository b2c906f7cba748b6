"""The compressed interaction network of xDeepFM without its other parts (Lian et al., 2018)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import check_widths, flatten, linear


class CIN(nnx.Module):
    """Compressed interactions of explicit order: [B, F, D] -> logits [B]. FuxiCTR's, and the authors'.

    Layer k maps the products of the F embeddings with the maps of layer k-1 to `cin_hidden_units[k]` maps
    of dimension D; the output is linear in the sums of all maps.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        cin_hidden_units: Sequence[int] = (16, 16, 16),
        rngs: nnx.Rngs,
    ):
        check_widths("cin_hidden_units", cin_hidden_units)
        inputs = (num_fields, *cin_hidden_units)
        self.linears = nnx.List(
            linear(num_fields * maps, units, rngs=rngs)
            for maps, units in zip(inputs, cin_hidden_units, strict=False)
        )
        self.output = linear(sum(cin_hidden_units), 1, rngs=rngs)

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        x0 = embeddings.swapaxes(1, 2)  # [B, D, F]: a layer is a product over the last axis
        x = x0
        pooled = []
        for layer in self.linears[:-1]:
            products = x0[..., :, None] * x[..., None, :]
            x = layer(products.reshape(*x0.shape[:2], -1))
            pooled.append(jnp.sum(x, axis=1))
        # Of the last maps only their sums are needed: the sum of products is D times less work than they are.
        last, dim = self.linears[-1], x0.shape[1]
        products = jnp.einsum("bdf,bdm->bfm", x0, x)
        pooled.append(dim * last(flatten(products) / dim))
        return self.output(jnp.concatenate(pooled, axis=1))[:, 0]
