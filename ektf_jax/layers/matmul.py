"""Products of dense layers in bfloat16, with float32 sums, forwards and backwards."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


@jax.custom_vjp
def bfloat16_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., inputs] times kernel [inputs, outputs], both rounded to bfloat16 and summed in float32.

    The two products of the backward pass round their factors too: left to differentiation they would take
    the float32 cotangent, and run at float32's speed.
    """
    return _forward(x, kernel)[0]


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    factors = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return jnp.dot(*factors, preferred_element_type=jnp.float32), factors


def _backward(factors: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = factors
    cotangent = cotangent.astype(jnp.bfloat16)
    along_outputs = (((cotangent.ndim - 1,), (1,)), ((), ()))
    over_rows = ((tuple(range(x.ndim - 1)),) * 2, ((), ()))
    # Not `cotangent @ kernel.T`: XLA's fast bfloat16 product on a CPU takes this form alone.
    dx = jax.lax.dot_general(cotangent, kernel, along_outputs, preferred_element_type=jnp.float32)
    return dx, jax.lax.dot_general(x, cotangent, over_rows, preferred_element_type=jnp.float32)


bfloat16_product.defvjp(_forward, _backward)


def use_bfloat16(model: nnx.Module) -> None:
    """Let every `nnx.Linear` in a model multiply by `bfloat16_product`. Parameters stay float32."""
    for _, module in nnx.iter_graph(model):
        if isinstance(module, nnx.Linear):
            module.dot_general = _dot_general


def _dot_general(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """`bfloat16_product` as `nnx.Linear` calls it; the dimensions that it passes are always these."""
    return bfloat16_product(x, kernel)
