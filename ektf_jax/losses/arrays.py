"""Arrays of rows: their checks, where they lie, and means over rows that have weights."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

Axes = str | tuple[str, ...] | None


def relative_weights(
    sample_weights: ArrayLike | None, logits: ArrayLike, axis_name: Axes = None
) -> jax.Array | None:
    """Weights [B] as multiples of their mean, for `row_mean`; None for none, and 0 where all are 0.

    Equal weights are 1, to rounding. `axis_name` is as in `ektf_loss`.
    """
    if sample_weights is None:
        return None
    weights = prepared(logits, sample_weights, "sample_weights")[1]
    total = jnp.sum(weights)
    total = total if axis_name is None else jax.lax.pmean(total, axis_name)
    return weights * jnp.where(total > 0, weights.shape[0] / jnp.where(total > 0, total, 1), 0)


def row_mean(values: jax.Array, relative: jax.Array | None) -> jax.Array:
    """The mean over rows by their `relative_weights`. [..., B] -> [...]."""
    return jnp.mean(values if relative is None else values * relative, axis=-1)


def floating(values: ArrayLike, name: str) -> jax.Array:
    """An array of at least 32 bits, or TypeError where it is not floating-point."""
    array = jnp.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"expected floating-point {name}, got {array.dtype} of shape {array.shape}")
    return array.astype(jnp.float32) if jnp.finfo(array.dtype).bits < 32 else array


def prepared(logits: ArrayLike, labels: ArrayLike, name: str = "labels") -> tuple[jax.Array, jax.Array]:
    """Logits [..., B] and labels [B] of one floating-point type, the labels lying as the logits' rows do.

    `name` is what an error calls the labels.
    """
    z, y = floating(logits, "logits"), jnp.asarray(labels)
    if jnp.issubdtype(y.dtype, jnp.complexfloating):
        raise TypeError(f"expected {name} that are real numbers or booleans, got {y.dtype}")
    if not z.ndim or y.shape != z.shape[-1:] or not y.size:
        raise ValueError(f"expected logits [K, B] and {name} [B], B at least 1, got {z.shape} and {y.shape}")
    y = y.astype(z.dtype)
    rows = lie(z, jax.typeof(z).sharding.spec[-1])
    return z, y if rows is None or lie(y) is None else jax.sharding.reshard(y, rows)


def checked(logits: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    logits, labels = prepared(logits, labels)
    if logits.ndim != 2 or not logits.shape[0]:
        raise ValueError(f"expected logits [K, B], K at least 1, got {logits.shape}")
    return logits, labels


def lie(like: jax.Array, *axes: Any) -> NamedSharding | None:
    """A sharding on the mesh of `like`, or None where no axis of that is explicit and XLA decides."""
    mesh = jax.typeof(like).sharding.mesh
    return NamedSharding(mesh, PartitionSpec(*axes)) if AxisType.Explicit in mesh.axis_types else None


def whole(array: jax.Array) -> jax.Array:
    """A small array, on every device."""
    everywhere = lie(array, *[None] * array.ndim)
    return array if everywhere is None else jax.sharding.reshard(array, everywhere)


def products(a: jax.Array, b: jax.Array) -> jax.Array:
    """Inner products of the rows of two matrices, on every device. [K, B], [K, B] -> [K, K]."""
    everywhere = lie(a, None, None)
    return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST, out_sharding=everywhere)
