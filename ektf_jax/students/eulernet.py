"""EulerNet: feature interactions in complex space (Tian et al., 2023)."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import (
    XAVIER_NORMAL,
    check_rate,
    check_widths,
    drop,
    dropout_keys,
    flatten,
    layer_norm_layer,
)

Complex = tuple[jax.Array, jax.Array]  # real and imaginary parts, [B, vectors, D] each


def _pytorch_linear(inputs: int, outputs: int, kernel_init: nnx.Initializer, *, rngs: nnx.Rngs) -> nnx.Linear:
    """PyTorch's default bias, uniform in +-1/sqrt(inputs): FuxiCTR's EulerNet keeps it."""

    def bias_init(key: jax.Array, shape: Sequence[int], dtype: jax.typing.DTypeLike) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -(inputs**-0.5), inputs**-0.5)

    return nnx.Linear(inputs, outputs, kernel_init=kernel_init, bias_init=bias_init, rngs=rngs)


class EulerInteraction(nnx.Module):
    """Explicit interactions of learned order plus a linear map. Complex [B, inputs, D] -> [B, outputs, D].

    In polar form a product of powers is a linear map of log moduli and phases (Euler's formula).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        dim: int,
        *,
        explicit_dropout: float,
        implicit_dropout: float,
        layer_norm: bool,
        rngs: nnx.Rngs,
    ):
        if inputs == outputs:
            orders = jnp.eye(inputs, dtype=jnp.float32)
        else:
            orders = jax.nn.softmax(
                jax.random.normal(rngs.params(), (inputs, outputs), jnp.float32) / 0.01, axis=0
            )
        self.orders = nnx.Param(orders)
        self.log_modulus_bias = nnx.Param(
            0.01 * jax.random.normal(rngs.params(), (dim, outputs), jnp.float32)
        )
        self.phase_bias = nnx.Param(0.01 * jax.random.normal(rngs.params(), (dim, outputs), jnp.float32))
        self.linear = _pytorch_linear(
            inputs * dim, outputs * dim, nnx.initializers.xavier_uniform(), rngs=rngs
        )
        self.norms = nnx.List(layer_norm_layer(dim, rngs=rngs) for _ in range(2 if layer_norm else 0))
        self.explicit_dropout, self.implicit_dropout = explicit_dropout, implicit_dropout

    def __call__(self, x: Complex, *, train: bool = False, key: jax.Array | None = None) -> Complex:
        keys = dropout_keys(key, 4)
        real, imaginary = x
        # 1e-8 keeps the logarithm finite at 0, where the phase, which has no gradient there, is set to 0.
        log_modulus = 0.5 * jnp.log(real**2 + imaginary**2 + 1e-8)
        phase = jnp.arctan2(imaginary, jnp.where((real == 0) & (imaginary == 0), 1, real))

        def explicit(values: jax.Array, bias: jax.Array, i: int) -> jax.Array:
            values = drop(values, self.explicit_dropout, train=train, key=keys[i])
            return (values.swapaxes(1, 2) @ self.orders[...] + bias).swapaxes(1, 2)

        def implicit(values: jax.Array, i: int) -> jax.Array:
            values = drop(flatten(values), self.implicit_dropout, train=train, key=keys[i])
            return nnx.relu(self.linear(values)).reshape(values.shape[0], -1, real.shape[-1])

        modulus = jnp.exp(explicit(log_modulus, self.log_modulus_bias[...], 0))
        phase = explicit(phase, self.phase_bias[...], 1)
        parts = (
            implicit(real, 2) + modulus * jnp.cos(phase),
            implicit(imaginary, 3) + modulus * jnp.sin(phase),
        )
        if self.norms:
            return self.norms[0](parts[0]), self.norms[1](parts[1])
        return parts


class EulerNet(nnx.Module):
    """Embeddings as phases, Euler interaction layers, a linear output: [B, F, D] -> logits [B].

    FuxiCTR's EulerNet. `shape` is the number of order vectors in each layer. Where layer_norm is False
    FuxiCTR's has 4 D parameters more in each layer, which it does not use.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        shape: Sequence[int] = (3,),
        explicit_dropout: float = 0.0,
        implicit_dropout: float = 0.0,
        layer_norm: bool = False,
        rngs: nnx.Rngs,
    ):
        check_widths("shape", shape)
        check_rate("explicit_dropout", explicit_dropout)
        check_rate("implicit_dropout", implicit_dropout)
        self.modulus = nnx.Param(jnp.ones((num_fields, 1), jnp.float32))
        self.layers = nnx.List(
            EulerInteraction(
                inputs,
                outputs,
                embedding_dim,
                explicit_dropout=explicit_dropout,
                implicit_dropout=implicit_dropout,
                layer_norm=layer_norm,
                rngs=rngs,
            )
            for inputs, outputs in itertools.pairwise((num_fields, *shape))
        )
        self.output = _pytorch_linear(shape[-1] * embedding_dim, 1, XAVIER_NORMAL, rngs=rngs)

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        modulus = self.modulus[...]
        x = (modulus * jnp.cos(embeddings), modulus * jnp.sin(embeddings))
        for layer, layer_key in zip(self.layers, dropout_keys(key, len(self.layers)), strict=True):
            x = layer(x, train=train, key=layer_key)
        real, imaginary = (self.output(flatten(part)) for part in x)
        return (real + imaginary)[:, 0]
