"""FinalMLP: two MLPs with feature gates and bilinear fusion (Mao et al., 2023)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import XAVIER_NORMAL, HiddenLayers, check_count, dropout_keys, flatten, linear


class FeatureGate(nnx.Module):
    """A learned factor in (0, 2) for every input, the same in all rows. [B, N] -> [B, N].

    FuxiCTR's FeatureSelection without context fields. Its context vector is initialised like an embedding:
    FuxiCTR's zeros leave the gate's hidden layer without a gradient for good.
    """

    def __init__(self, width: int, embedding_dim: int, hidden_units: Sequence[int], *, rngs: nnx.Rngs):
        self.context = nnx.Param(1e-4 * jax.random.normal(rngs.params(), (1, embedding_dim), jnp.float32))
        self.hidden_layers = HiddenLayers(
            embedding_dim, hidden_units, dropout=0.0, batch_norm=False, rngs=rngs
        )
        self.output = linear(hidden_units[-1], width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * 2 * nnx.sigmoid(self.output(self.hidden_layers(self.context[...])))


class FinalMLP(nnx.Module):
    """Two gated MLPs and a multi-head bilinear form of their outputs: [B, F, D] -> logits [B].

    FuxiCTR's FinalMLP. `hidden_units`, `dropout` and `batch_norm` are the first MLP's, those that end in 2
    the second's. `gate_hidden_units` are the hidden layers of both feature gates, whose context vectors start
    at random where FuxiCTR's start at 0; `num_heads` divides the last width of either MLP.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        hidden_units: Sequence[int] = (400, 400, 400),
        hidden_units2: Sequence[int] = (400, 400, 400),
        dropout: float = 0.1,
        dropout2: float = 0.1,
        batch_norm: bool = True,
        batch_norm2: bool = True,
        feature_gates: bool = True,
        gate_hidden_units: Sequence[int] = (64,),
        num_heads: int = 1,
        rngs: nnx.Rngs,
    ):
        check_count("num_heads", num_heads)
        width = num_fields * embedding_dim
        self.gates = nnx.List(
            FeatureGate(width, embedding_dim, gate_hidden_units, rngs=rngs)
            for _ in range(2 if feature_gates else 0)
        )
        self.mlp1 = HiddenLayers(width, hidden_units, dropout=dropout, batch_norm=batch_norm, rngs=rngs)
        self.mlp2 = HiddenLayers(width, hidden_units2, dropout=dropout2, batch_norm=batch_norm2, rngs=rngs)
        widths = hidden_units[-1], hidden_units2[-1]
        if any(units % num_heads for units in widths):
            raise ValueError(f"the last widths {widths} must be multiples of num_heads = {num_heads}")
        self.output1, self.output2 = (linear(units, 1, rngs=rngs) for units in widths)
        units1, units2 = (units // num_heads for units in widths)
        # Xavier's fans are those of the reference, whose weight is one matrix [heads * units1 * units2, 1].
        weights = XAVIER_NORMAL(rngs.params(), (num_heads * units1 * units2, 1), jnp.float32)
        self.bilinear = nnx.Param(weights.reshape(num_heads, units1, units2))

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        key1, key2 = dropout_keys(key, 2)
        flat = flatten(embeddings)
        input1, input2 = (gate(flat) for gate in self.gates) if self.gates else (flat, flat)
        x = self.mlp1(input1, train=train, key=key1)
        y = self.mlp2(input2, train=train, key=key2)
        heads = self.bilinear.shape[0]
        left = jnp.einsum("bhi,hij->bhj", x.reshape(x.shape[0], heads, -1), self.bilinear[...])
        bilinear = jnp.sum(left * y.reshape(y.shape[0], heads, -1), axis=(1, 2))
        return (self.output1(x) + self.output2(y))[:, 0] + bilinear
