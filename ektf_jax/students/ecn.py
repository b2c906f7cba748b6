"""ECN: the exponential cross network of FCN / DCNv3 (Li et al., 2024)."""

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import (
    batch_norm_layer,
    check_layers,
    check_rate,
    drop,
    dropout_keys,
    flatten,
    layer_norm_layer,
    linear,
)


class GatedCross(nnx.Module):
    """x <- x + x0 * ([h, mask(h)] + b), h linear in x of half its width. [B, N] -> [B, N].

    Where x0 is x itself orders double with each layer (exponential), where it is the input of the first
    layer they grow by one (linear). The self-mask is h times ReLU of its LayerNorm. BatchNorm is over rows
    and units together, with one scale and one bias, as in the authors' code; of inputs [B, heads, N] each
    head has its own.
    """

    def __init__(self, width: int, *, heads: int = 1, dropout: float, batch_norm: bool, rngs: nnx.Rngs):
        self.linear = linear(width, width // 2, use_bias=False, rngs=rngs)
        self.bias = nnx.Param(jax.random.uniform(rngs.params(), (width,), jnp.float32))
        self.layer_norm = layer_norm_layer(width // 2, rngs=rngs)
        self.batch_norm = batch_norm_layer(heads, rngs=rngs) if batch_norm else None
        self.heads = heads
        self.dropout = dropout

    def __call__(
        self, x0: jax.Array, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        h = self.linear(x)
        if self.batch_norm is not None:
            by_head = jnp.swapaxes(h.reshape(h.shape[0], self.heads, -1), 1, 2)
            normed = self.batch_norm(by_head, use_running_average=not train)
            h = jnp.swapaxes(normed, 1, 2).reshape(h.shape)
        masked = h * nnx.relu(self.layer_norm(h))
        x = x0 * (jnp.concatenate([h, masked], axis=-1) + self.bias[...]) + x
        return drop(x, self.dropout, train=train, key=key)


def halves(embeddings: jax.Array, heads: int = 1) -> jax.Array:
    """The first halves of all embeddings, then the second halves. [B, F, D] -> [B, F * D].

    With more than one head that of D / heads columns each, [B, heads, F * D / heads].
    """
    if heads == 1:
        half = -(-embeddings.shape[2] // 2)
        return jnp.concatenate([flatten(embeddings[..., :half]), flatten(embeddings[..., half:])], axis=1)
    split = jnp.split(embeddings, heads, axis=2)
    return jnp.stack([halves(head) for head in split], axis=1)


class ECN(nnx.Module):
    """Exponential cross layers and a linear output: [B, F, D] -> logits [B].

    The authors' ExponentialCrossNetwork: the first halves of all embeddings come before the second halves.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        num_cross_layers: int = 3,
        dropout: float = 0.1,
        batch_norm: bool = True,
        rngs: nnx.Rngs,
    ):
        check_layers("num_cross_layers", num_cross_layers)
        check_rate("dropout", dropout)
        width = num_fields * embedding_dim
        if width % 2:
            raise ValueError(
                f"{num_fields} fields of dimension {embedding_dim} make an odd width, not halves"
            )
        self.layers = nnx.List(
            GatedCross(width, dropout=dropout, batch_norm=batch_norm, rngs=rngs)
            for _ in range(num_cross_layers)
        )
        self.output = linear(width, 1, rngs=rngs)

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        x = halves(embeddings)
        for layer, layer_key in zip(self.layers, dropout_keys(key, len(self.layers)), strict=True):
            x = layer(x, x, train=train, key=layer_key)
        return self.output(x)[:, 0]
