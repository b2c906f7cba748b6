"""Enhanced deep & cross network (Chen et al., 2021)."""

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import (
    HiddenLayers,
    batch_norm_layer,
    check_choice,
    check_layers,
    dropout_keys,
    flatten,
    linear,
)
from ektf_jax.students.dcn import CrossLayer

BRIDGES = ("hadamard_product", "pointwise_addition")


class Regulation(nnx.Module):
    """Give the cross and the deep part each its own view of one input. [B, N] -> two [B, N].

    A view is the input times gates over the fields, where there are gates, and normalised, where there are
    norms.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        gates: bool,
        temperature: float,
        batch_norm: bool,
        rngs: nnx.Rngs,
    ):
        self.gates = nnx.List(nnx.Param(jnp.ones(num_fields, jnp.float32)) for _ in range(2 if gates else 0))
        width = num_fields * embedding_dim
        self.norms = nnx.List(batch_norm_layer(width, rngs=rngs) for _ in range(2 if batch_norm else 0))
        self.embedding_dim = embedding_dim
        self.temperature = temperature

    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        cross = deep = x
        if self.gates:
            weights = [nnx.softmax(gate[...] / self.temperature) for gate in self.gates]
            cross, deep = (x * jnp.repeat(weight, self.embedding_dim) for weight in weights)
        if self.norms:
            cross, deep = (
                norm(x, use_running_average=not train)
                for norm, x in zip(self.norms, (cross, deep), strict=True)
            )
        return cross, deep


class EDCN(nnx.Module):
    """Cross and deep layers that exchange at every depth: [B, F, D] -> logits [B]. FuxiCTR's EDCN.

    `bridge` joins the two parts, `batch_norm` is that of the regulation modules; the deep layers, of width
    F * D, have none. With `residual` a cross layer's output is added to its input, as in FuxiCTR 1.2.2, whose
    EDCN all results of BARS are of; FuxiCTR 2 leaves the input out. `regulation` are the gates that divide
    the fields between the parts, which FuxiCTR 1.2.2 can leave out too; `temperature` is theirs.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        num_cross_layers: int = 3,
        bridge: str = "hadamard_product",
        residual: bool = False,
        regulation: bool = True,
        temperature: float = 1.0,
        dropout: float = 0.1,
        batch_norm: bool = True,
        rngs: nnx.Rngs,
    ):
        check_layers("num_cross_layers", num_cross_layers)
        check_choice("bridge", bridge, BRIDGES)
        if not temperature > 0:
            raise ValueError(f"temperature = {temperature} must be above 0")
        width = num_fields * embedding_dim
        layers = range(num_cross_layers)
        self.regulations = nnx.List(
            Regulation(
                num_fields,
                embedding_dim,
                gates=regulation,
                temperature=temperature,
                batch_norm=batch_norm,
                rngs=rngs,
            )
            for _ in layers
        )
        self.cross_layers = nnx.List(CrossLayer(width, rngs=rngs) for _ in layers)
        self.deep_layers = nnx.List(
            HiddenLayers(width, (width,), dropout=dropout, batch_norm=False, rngs=rngs) for _ in layers
        )
        self.output = linear(3 * width, 1, rngs=rngs)
        self.bridge = bridge
        self.residual = residual

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        keys = dropout_keys(key, len(self.cross_layers))
        x0 = joined = flatten(embeddings)
        for i, (regulate, cross_layer, deep_layer) in enumerate(
            zip(self.regulations, self.cross_layers, self.deep_layers, strict=True)
        ):
            cross, deep = regulate(joined, train=train)
            if i == 0:
                x0 = cross
            crossed = cross_layer(x0, cross)
            cross = cross + crossed if self.residual else crossed
            deep = deep_layer(deep, train=train, key=keys[i])
            joined = cross * deep if self.bridge == "hadamard_product" else cross + deep
        return self.output(jnp.concatenate([cross, deep, joined], axis=1))[:, 0]
