"""The two products of self-attention over the fields of a row, as training differentiates them.

Predictions, which nothing differentiates, have the plain products: what exports them knows these.
"""

from functools import reduce
from operator import add

import jax
import jax.numpy as jnp

from ektf_jax.layers.apart import apart


@jax.custom_vjp
def scores(query: jax.Array, key: jax.Array) -> jax.Array:
    """Multiply each field's query with each field's key: twice [B, F, H, D] -> [B, H, F, F], keys last."""
    return _einsum_over_dims(query, key)


@jax.custom_vjp
def mixture(attention: jax.Array, value: jax.Array) -> jax.Array:
    """Sum the fields' values by each field's attention: [B, H, F, F], [B, F, H, D] -> [B, F, H, D]."""
    return _einsum_over_fields(attention, value)


scores.defvjp(
    lambda query, key: (_over_dims(query, key), (query, key)),
    lambda found, g: (_over_fields(g, found[1]), _over_fields(g.swapaxes(2, 3), found[0])),
)
mixture.defvjp(
    lambda attention, value: (_over_fields(attention, value), (attention, value)),
    lambda found, g: (_over_dims(g, found[1]), _over_fields(found[0].swapaxes(2, 3), g)),
)


def _over_dims(left: jax.Array, right: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(left, right, cpu=_sum_over_dims, default=_einsum_over_dims)


def _over_fields(attention: jax.Array, x: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(attention, x, cpu=_sum_over_fields, default=_einsum_over_fields)


def _einsum_over_dims(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum("bihd,bjhd->bhij", left, right)


def _einsum_over_fields(attention: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.einsum("bhij,bjhd->bihd", attention, x)


# The products are tens of thousands of tiny ones, and for each a CPU's XLA calls a routine. As sums over
# whole arrays they take a tenth of that time, if nothing is fused with them, so that AutoInt's step is faster
# than its original's (`benchmarks/students.py --models=autoint`).
@apart
def _sum_over_dims(left: jax.Array, right: jax.Array) -> jax.Array:
    left, right = left.swapaxes(1, 2), right.swapaxes(1, 2)
    products = (left[..., :, None, d] * right[..., None, :, d] for d in range(left.shape[-1]))
    return reduce(add, products)


@apart
def _sum_over_fields(attention: jax.Array, x: jax.Array) -> jax.Array:
    attention = attention.swapaxes(1, 2)
    products = (attention[..., field, None] * x[:, None, field] for field in range(x.shape[1]))
    return reduce(add, products)
