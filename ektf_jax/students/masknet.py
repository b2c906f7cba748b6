"""MaskNet, serial and parallel (Wang et al., 2021)."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import (
    DNN,
    check_choice,
    check_count,
    check_layers,
    check_rate,
    check_widths,
    drop,
    dropout_keys,
    flatten,
    layer_norm_layer,
    linear,
)

VARIANTS = ("serial", "parallel")


class MaskBlock(nnx.Module):
    """A hidden layer masked by a function of the embeddings. [B, N] and [B, inputs] -> [B, outputs]."""

    def __init__(
        self,
        embedding_width: int,
        inputs: int,
        outputs: int,
        *,
        reduction_ratio: float,
        dropout: float,
        layer_norm: bool,
        rngs: nnx.Rngs,
    ):
        check_rate("dropout", dropout)
        width = int(inputs * reduction_ratio)
        if width < 1:
            raise ValueError(f"reduction_ratio = {reduction_ratio} leaves no units of {inputs}")
        check_count(f"reduction_ratio = {reduction_ratio} of {inputs} units", width)
        self.mask = nnx.Sequential(
            linear(embedding_width, width, rngs=rngs), nnx.relu, linear(width, inputs, rngs=rngs)
        )
        self.linear = linear(inputs, outputs, use_bias=False, rngs=rngs)
        self.norm = layer_norm_layer(outputs, rngs=rngs) if layer_norm else None
        self.dropout = dropout

    def __call__(
        self, flat: jax.Array, x: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        x = self.linear(self.mask(flat) * x)
        if self.norm is not None:
            x = self.norm(x)
        return drop(nnx.relu(x), self.dropout, train=train, key=key)


class FieldNorm(nnx.Module):
    """LayerNorm of each embedding, with scale and bias of each field. [B, F, D] -> [B, F, D]."""

    def __init__(self, num_fields: int, embedding_dim: int):
        self.scale = nnx.Param(jnp.ones((num_fields, embedding_dim), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((num_fields, embedding_dim), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.standardize(x, epsilon=1e-5) * self.scale[...] + self.bias[...]


class MaskNet(nnx.Module):
    """Hidden layers masked by the instance: [B, F, D] -> logits [B]. FuxiCTR's MaskNet.

    "serial" chains one mask block per width in `hidden_units`; "parallel" puts `num_blocks` of width
    `block_dim` side by side, and an MLP of `hidden_units` on top.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        variant: str = "parallel",
        hidden_units: Sequence[int] = (400, 400, 400),
        num_blocks: int = 1,
        block_dim: int = 64,
        reduction_ratio: float = 1.0,
        dropout: float = 0.1,
        embedding_layer_norm: bool = True,
        layer_norm: bool = True,
        rngs: nnx.Rngs,
    ):
        check_choice("variant", variant, VARIANTS)
        check_widths("hidden_units", hidden_units)
        check_layers("num_blocks", num_blocks)
        check_count("block_dim", block_dim)
        width = num_fields * embedding_dim
        self.norm = FieldNorm(num_fields, embedding_dim) if embedding_layer_norm else None
        if variant == "serial":
            shapes = list(itertools.pairwise((width, *hidden_units)))
        else:
            shapes = [(width, block_dim)] * num_blocks
        self.blocks = nnx.List(
            MaskBlock(
                width,
                inputs,
                outputs,
                reduction_ratio=reduction_ratio,
                dropout=dropout,
                layer_norm=layer_norm,
                rngs=rngs,
            )
            for inputs, outputs in shapes
        )
        self.variant = variant
        if variant == "serial":
            self.output = linear(hidden_units[-1], 1, rngs=rngs)
        else:
            self.dnn = DNN(num_blocks * block_dim, hidden_units, dropout=dropout, batch_norm=False, rngs=rngs)

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        dnn_key, *keys = dropout_keys(key, 1 + len(self.blocks))
        flat = flatten(embeddings)
        x = flat if self.norm is None else flatten(self.norm(embeddings))
        if self.variant == "serial":
            for block, block_key in zip(self.blocks, keys, strict=True):
                x = block(flat, x, train=train, key=block_key)
            return self.output(x)[:, 0]
        outputs = [
            block(flat, x, train=train, key=block_key)
            for block, block_key in zip(self.blocks, keys, strict=True)
        ]
        return self.dnn(jnp.concatenate(outputs, axis=1), train=train, key=dnn_key)
