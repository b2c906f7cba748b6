"""QNN-alpha: a quadratic neural network (Li et al., 2025)."""

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import (
    batch_norm_layer,
    check_count,
    check_layers,
    check_rate,
    drop,
    dropout_keys,
    flatten,
    hidden_layer,
    linear,
)


class QuadraticLayer(nnx.Module):
    """x <- x + sum over r of x_h * ReLU(BN(W x))_hr, heads h and rows r. [B, F * D] -> [B, F * D].

    A head is a slice of D / H of every field's embedding. The products lie head by head and x field by
    field, and as in the original they are added as they lie.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        num_heads: int,
        num_rows: int,
        dropout: float,
        batch_norm: bool,
        rngs: nnx.Rngs,
    ):
        width = num_fields * embedding_dim
        self.linear = linear(width, width * num_rows, rngs=rngs)
        self.norm = batch_norm_layer(width * num_rows, rngs=rngs) if batch_norm else None
        self.shape = (num_fields, num_heads, embedding_dim // num_heads)
        self.num_rows = num_rows
        self.dropout = dropout

    def __call__(self, x: jax.Array, *, train: bool = False, key: jax.Array | None = None) -> jax.Array:
        rows = x.shape[0]
        heads = jnp.swapaxes(x.reshape(rows, *self.shape), 1, 2).reshape(rows, self.shape[1], -1)
        h = hidden_layer(x, self.linear, self.norm, self.dropout, train=train, key=key)
        weights = jnp.sum(h.reshape(rows, self.shape[1], self.num_rows, -1), axis=2)
        return x + (heads * weights).reshape(rows, -1)


class QNN(nnx.Module):
    """Quadratic layers, each with dropout, and a linear output: [B, F, D] -> logits [B].

    The authors' QNN_alpha (QNN_T26 in their repository), of order 2 ** `num_layers`. They train it by
    self-transfer between two passes of different dropout: `transfer.self` = 2.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        num_layers: int = 3,
        num_heads: int = 1,
        num_rows: int = 2,
        dropout: float = 0.1,
        batch_norm: bool = True,
        rngs: nnx.Rngs,
    ):
        check_layers("num_layers", num_layers)
        check_count("num_heads", num_heads)
        check_count("num_rows", num_rows)
        check_rate("dropout", dropout)
        if embedding_dim % num_heads:
            raise ValueError(f"num_heads = {num_heads} must divide the embedding dimension {embedding_dim}")
        self.layers = nnx.List(
            QuadraticLayer(
                num_fields,
                embedding_dim,
                num_heads=num_heads,
                num_rows=num_rows,
                dropout=dropout,
                batch_norm=batch_norm,
                rngs=rngs,
            )
            for _ in range(num_layers)
        )
        self.output = linear(num_fields * embedding_dim, 1, rngs=rngs)
        self.dropout = dropout

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        x = flatten(embeddings)
        keys = dropout_keys(key, 2 * len(self.layers))
        for layer, inner, outer in zip(self.layers, keys[::2], keys[1::2], strict=True):
            x = drop(layer(x, train=train, key=inner), self.dropout, train=train, key=outer)
        return self.output(x)[:, 0]
