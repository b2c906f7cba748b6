"""BatchNorm, ReLU and dropout as one function with a backward pass of its own."""

from functools import partial

import jax
import jax.numpy as jnp

from ektf_jax.layers.dropout import kept

EPSILON = 1e-5


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def norm_relu_dropout(
    x: jax.Array, scale: jax.Array, bias: jax.Array, rate: float, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """dropout(relu(BatchNorm(x))) on batch statistics: x [B, H] -> (result [B, H], mean [H], variance [H]).

    Equal to the three in a row (tests). The backward pass needs x and the statistics alone, and computes the
    rest again where it is used: less is stored for each of K students, which is what a step of a large
    ensemble on a CPU spends its time on beside matrix products (`benchmarks/variants.py`).
    Mean and (biased) variance are for running statistics and carry no gradient.
    """
    return _forward(x, scale, bias, rate, key)[0]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, rate: float, key: jax.Array
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
    mean, variance = jax.lax.platform_dependent(x, cpu=_in_two_passes, default=_in_one_pass)
    inverse = jax.lax.rsqrt(variance + EPSILON)
    z = (x - mean) * (inverse * scale) + bias
    y = jnp.where(_passes(z, rate, key), z / (1 - rate), 0)
    return (y, mean, variance), (x, scale, bias, mean, inverse, key)


def _backward(
    rate: float, residuals: tuple[jax.Array, ...], cotangents: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    x, scale, bias, mean, inverse, key = residuals
    z = (x - mean) * (inverse * scale) + bias
    dz = jnp.where(_passes(z, rate, key), cotangents[0] / (1 - rate), 0)
    dbias = jnp.sum(dz, axis=0)
    dscale = inverse * jnp.sum(dz * (x - mean), axis=0)
    centred = dz - dbias / x.shape[0] - (x - mean) * (inverse * dscale / x.shape[0])
    return centred * (inverse * scale), dscale, dbias, None


def _in_two_passes(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance of x [B, H] over B."""
    mean = jnp.mean(x, axis=0)
    return mean, jnp.mean((x - mean) ** 2, axis=0)


def _in_one_pass(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same, but x is read from memory once; a row of it is near enough to the mean to round as well.

    A step of 64 students on an H100 takes 4.5 % less time for it (`benchmarks/accelerator.sh`).
    """
    moved = x - x[0]
    mean = jnp.mean(moved, axis=0)
    return mean + x[0], jnp.maximum(jnp.mean(moved**2, axis=0) - mean**2, 0)


def _passes(z: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    positive = z > 0
    return positive & kept(key, z.shape, rate) if rate else positive


norm_relu_dropout.defvjp(_forward, _backward)
