"""Dropout whose random bits are a hash of (key, element index)."""

import math

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Zero each element of `x` with probability `rate` and scale the others by 1 / (1 - rate).

    The bits are computed where they are used, forward and backward, and never stored: XLA fuses the hash
    into the neighbouring elementwise work. Threefry bits cost more than an MLP's matrix products on a CPU
    (`benchmarks/variants.py`). An element's bit depends on the key and on its position in
    `x` only, so sharding or stacking arrays does not change it.
    """
    if rate == 0:
        return x
    if not 0 < rate < 1:
        raise ValueError(f"dropout rate {rate} is outside [0, 1)")
    return jnp.where(kept(key, x.shape, rate), x / (1 - rate), 0)


def kept(key: jax.Array, shape: tuple[int, ...], rate: float) -> jax.Array:
    """Which elements of an array of `shape` dropout keeps."""
    return hashed_bits(key, shape) >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1))


def hashed_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform uint32 bits: the index, offset by the key, through a 32-bit multiply-xorshift finaliser.

    The finaliser is Chris Wellons's lowbias32. The second half of the key enters between its rounds, so
    that two keys do not give shifted copies of one sequence.
    """
    seeds = jax.random.bits(key, (2,), jnp.uint32)
    h = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape) + seeds[0]
    h = (h ^ (h >> 16)) * jnp.uint32(0x7FEB352D) + seeds[1]
    h = (h ^ (h >> 15)) * jnp.uint32(0x846CA68B)
    return h ^ (h >> 16)
