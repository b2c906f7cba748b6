"""Products of self-attention against einsum in float64, gradients too, also for several students at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ektf_jax.layers import attention


def plain(query, key, value, out):
    """The sum of out * softmax(query key) value, in float64."""
    weights = jax.nn.softmax(jnp.einsum("...ihd,...jhd->...hij", query, key))
    return jnp.sum(out * jnp.einsum("...hij,...jhd->...ihd", weights, value))


def ours(query, key, value, out):
    """The same by the functions under test."""
    return jnp.sum(out * attention.mixture(jax.nn.softmax(attention.scores(query, key)), value))


@pytest.mark.parametrize(("fields", "heads", "dim"), [(7, 4, 8), (2, 1, 1), (1, 2, 3), (11, 3, 5)])
def test_values_and_gradients_are_einsums(fields, heads, dim):
    draws = np.random.default_rng(0).normal(size=(4, 3, 6, fields, heads, dim))
    with jax.enable_x64(True):
        wanted = jax.value_and_grad(lambda arrays: plain(*arrays))(list(draws))
    for function in (ours, jax.vmap(ours)):
        found = jax.jit(jax.value_and_grad(lambda arrays, f=function: jnp.sum(f(*arrays))))
        arrays = [draw.astype(np.float32) for draw in draws]
        if function is ours:  # one student: all rows in one batch
            arrays = [array.reshape(18, fields, heads, dim) for array in arrays]
        value, gradients = found(arrays)
        np.testing.assert_allclose(jnp.sum(function(*arrays)), wanted[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(value, wanted[0], rtol=1e-5, atol=1e-5)
        for gradient, expected in zip(gradients, wanted[1], strict=True):
            np.testing.assert_allclose(gradient.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_every_platform_has_its_products(platform):
    """A CPU sums over whole arrays in calls that stay calls; others multiply matrices."""
    shape = jax.ShapeDtypeStruct((4, 3, 2, 5), jnp.float32)
    gradient = jax.jit(jax.grad(lambda left, right: jnp.sum(attention.scores(left, right) ** 2)))
    text = jax.export.export(gradient, platforms=[platform])(shape, shape).mlir_module()
    assert ("dot_general" in text) == (platform != "cpu")
    assert ("inlineable" in text) == (platform == "cpu")
