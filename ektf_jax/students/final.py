"""FINAL: factorized interaction layers (Zhu et al., 2023)."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax import losses
from ektf_jax.layers.blocks import (
    batch_norm_layer,
    check_choice,
    check_rate,
    check_widths,
    drop,
    dropout_keys,
    flatten,
    linear,
    norm_relu_drop,
)

GATE_INITS = ("ones", "xavier")


class FieldGate(nnx.Module):
    """The embeddings and, after them, the embeddings times gates over the fields. [B, F, D] -> [B, 2 F, D].

    A gate is linear in the same dimension of all fields. With init "ones" all gates start at 1 (kernel 0,
    bias 1), with "xavier" as any linear layer here does (kernel Xavier normal, bias 0).
    """

    def __init__(self, num_fields: int, *, init: str, rngs: nnx.Rngs):
        check_choice("gate_init", init, GATE_INITS)
        if init == "xavier":
            self.linear = linear(num_fields, num_fields, rngs=rngs)
        else:
            zeros, ones = nnx.initializers.zeros, nnx.initializers.ones
            self.linear = nnx.Linear(num_fields, num_fields, kernel_init=zeros, bias_init=ones, rngs=rngs)

    def __call__(self, embeddings: jax.Array) -> jax.Array:
        gates = self.linear(embeddings.swapaxes(1, 2)).swapaxes(1, 2)
        return jnp.concatenate([embeddings, embeddings * gates], axis=1)


class FactorizedBlock(nnx.Module):
    """Factorized interaction layers and a linear output. [B, inputs] -> logits [B].

    A layer is linear, keeps one half of its units and multiplies the other half with it, which doubles the
    order of interactions; then BatchNorm, activation, dropout.
    """

    def __init__(
        self,
        inputs: int,
        hidden_units: Sequence[int],
        *,
        activation: str,
        dropout: float,
        batch_norm: bool,
        rngs: nnx.Rngs,
    ):
        check_rate("dropout", dropout)
        check_widths("hidden_units", hidden_units)
        check_choice("activation", activation, ("relu", "none"))
        if any(width % 2 for width in hidden_units):
            raise ValueError(f"hidden_units = {hidden_units} must be even: each layer multiplies its halves")
        widths = (inputs, *hidden_units)
        self.linears = nnx.List(linear(i, o, rngs=rngs) for i, o in itertools.pairwise(widths))
        self.norms = nnx.List(
            batch_norm_layer(width, rngs=rngs) for width in (hidden_units if batch_norm else ())
        )
        self.output = linear(hidden_units[-1], 1, rngs=rngs)
        self.activation = activation
        self.dropout = dropout

    def __call__(self, x: jax.Array, *, train: bool = False, key: jax.Array | None = None) -> jax.Array:
        keys = dropout_keys(key, len(self.linears))
        for i, layer in enumerate(self.linears):
            kept, other = jnp.split(layer(x), 2, axis=1)
            x = jnp.concatenate([kept, other * kept], axis=1)
            norm = self.norms[i] if self.norms else None
            if self.activation == "relu":
                x = norm_relu_drop(x, norm, self.dropout, train=train, key=keys[i])
            else:
                x = x if norm is None else norm(x, use_running_average=not train)
                x = drop(x, self.dropout, train=train, key=keys[i])
        return self.output(x)[:, 0]


class FINAL(nnx.Module):
    """FINAL(1B), or with blocks = 2 FINAL(2B): [B, F, D] -> logits [B].

    The first block reads the gated embeddings. One block is the authors' FinalNet; FuxiCTR's has no
    activation by default. Two blocks are FuxiCTR's: the second reads the embeddings as they are, the logit
    is the mean of the blocks', and in training it is returned beside a loss, (logits [B], loss): each
    block's cross-entropy with the prediction of both as its soft label, without gradient.

    `gate_init`, how the gates of the fields start, is "ones" in FuxiCTR's FINAL and "xavier" in the authors'
    EKTF_L: the method of their gate that would set it to ones is called by no FuxiCTR that has the interface
    EKTF_L is written for (2.0.0 to 2.0.2).
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        blocks: int = 1,
        gate_init: str = "ones",
        hidden_units: Sequence[int] = (400, 400, 400),
        hidden_units2: Sequence[int] = (400, 400, 400),
        activation: str = "relu",
        dropout: float = 0.1,
        batch_norm: bool = True,
        rngs: nnx.Rngs,
    ):
        check_choice("blocks", blocks, (1, 2))
        width = num_fields * embedding_dim
        self.gate = FieldGate(num_fields, init=gate_init, rngs=rngs)
        self.blocks = nnx.List(
            FactorizedBlock(
                inputs, units, activation=activation, dropout=dropout, batch_norm=batch_norm, rngs=rngs
            )
            for inputs, units in ((2 * width, hidden_units), (width, hidden_units2))[:blocks]
        )

    def __call__(
        self,
        embeddings: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
        sample_weights: jax.Array | None = None,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        keys = dropout_keys(key, 2)
        first = self.blocks[0](flatten(self.gate(embeddings)), train=train, key=keys[0])
        if len(self.blocks) == 1:
            return first
        second = self.blocks[1](flatten(embeddings), train=train, key=keys[1])
        logits = (first + second) / 2
        if not train:
            return logits
        teacher = jax.lax.stop_gradient(nnx.sigmoid(logits))
        of_first = losses.ctr_loss(first, teacher, sample_weights=sample_weights)
        return logits, of_first + losses.ctr_loss(second, teacher, sample_weights=sample_weights)
