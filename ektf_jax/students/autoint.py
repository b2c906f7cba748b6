"""AutoInt with its parallel DNN, AutoInt* (Song et al., 2019)."""

from collections.abc import Sequence

import jax
from flax import nnx

from ektf_jax.layers import attention
from ektf_jax.layers.blocks import (
    DNN,
    Wide,
    check_count,
    check_layers,
    check_rate,
    drop,
    dropout_keys,
    flatten,
    layer_norm_layer,
    linear,
)


class SelfAttention(nnx.Module):
    """Multi-head self-attention over the fields, then ReLU. [B, F, inputs] -> [B, F, attention_dim]."""

    def __init__(
        self,
        inputs: int,
        attention_dim: int,
        *,
        num_heads: int,
        dropout: float,
        use_residual: bool,
        use_scale: bool,
        layer_norm: bool,
        rngs: nnx.Rngs,
    ):
        check_count("num_heads", num_heads)
        check_count("attention_dim", attention_dim)
        check_rate("dropout", dropout)
        if attention_dim % num_heads:
            raise ValueError(f"attention_dim = {attention_dim} must be a multiple of num_heads = {num_heads}")
        self.query, self.key, self.value = (
            linear(inputs, attention_dim, use_bias=False, rngs=rngs) for _ in range(3)
        )
        self.use_residual = use_residual
        project = use_residual and inputs != attention_dim
        self.residual = linear(inputs, attention_dim, use_bias=False, rngs=rngs) if project else None
        self.norm = layer_norm_layer(attention_dim, rngs=rngs) if layer_norm else None
        self.num_heads = num_heads
        self.scale = (attention_dim // num_heads) ** -0.5 if use_scale else 1.0
        self.dropout = dropout

    def __call__(self, x: jax.Array, *, train: bool = False, key: jax.Array | None = None) -> jax.Array:
        query, key_of_field, value = (
            layer(x).reshape(*x.shape[:2], self.num_heads, -1) for layer in (self.query, self.key, self.value)
        )
        scores = attention.scores(query, key_of_field) * self.scale
        weights = drop(nnx.softmax(scores), self.dropout, train=train, key=key)
        output = attention.mixture(weights, value).reshape(*x.shape[:2], -1)
        if self.use_residual:
            output = output + (x if self.residual is None else self.residual(x))
        if self.norm is not None:
            output = self.norm(output)
        return nnx.relu(output)


class AutoInt(nnx.Module):
    """Self-attention over the fields and an MLP, added: [B, F, D] -> logits [B].

    FuxiCTR's AutoInt with a DNN, and the authors' AutoInt (use_scale = True there). `dropout` is the
    MLP's and the attention's. `wide` adds a linear part, see `Wide`; "none" is no such part.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        wide: str = "none",
        attention_layers: int = 2,
        num_heads: int = 1,
        attention_dim: int = 8,
        use_scale: bool = False,
        use_residual: bool = True,
        layer_norm: bool = False,
        hidden_units: Sequence[int] = (400, 400, 400),
        dropout: float = 0.1,
        batch_norm: bool = True,
        rngs: nnx.Rngs,
    ):
        check_layers("attention_layers", attention_layers)
        self.embedding_dim = embedding_dim
        self.wide = (
            None
            if wide == "none"
            else Wide(num_fields, embedding_dim, source=wide, use_bias=False, rngs=rngs)
        )
        self.wide_dim = 0 if self.wide is None else self.wide.columns
        self.attention = nnx.List(
            SelfAttention(
                embedding_dim if layer == 0 else attention_dim,
                attention_dim,
                num_heads=num_heads,
                dropout=dropout,
                use_residual=use_residual,
                use_scale=use_scale,
                layer_norm=layer_norm,
                rngs=rngs,
            )
            for layer in range(attention_layers)
        )
        self.output = linear(num_fields * attention_dim, 1, rngs=rngs)
        self.dnn = DNN(
            num_fields * embedding_dim, hidden_units, dropout=dropout, batch_norm=batch_norm, rngs=rngs
        )

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        dnn_key, *keys = dropout_keys(key, 1 + len(self.attention))
        x = shared = embeddings[..., : self.embedding_dim]
        for layer, layer_key in zip(self.attention, keys, strict=True):
            x = layer(x, train=train, key=layer_key)
        logits = self.output(flatten(x))[:, 0] + self.dnn(flatten(shared), train=train, key=dnn_key)
        return logits if self.wide is None else logits + self.wide(embeddings)
