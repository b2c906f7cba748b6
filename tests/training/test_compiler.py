"""ektf_jax.training.compiler: options that the XLA at hand knows, and that change no values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ektf_jax.training import compiler
from tests.compilation import optimizations


@pytest.fixture(autouse=True)
def forget():
    compiler._knows_eigen_products.cache_clear()
    yield
    compiler._knows_eigen_products.cache_clear()


def test_products_are_the_same_with_the_options():
    x = np.random.default_rng(0).standard_normal((257, 130)).astype(np.float32)
    kernel = np.random.default_rng(1).standard_normal((130, 70)).astype(np.float32)

    def loss(kernel, x):
        return jnp.sum(jnp.tanh(x @ kernel))

    with optimizations(True):
        gradient = jax.jit(jax.grad(loss), compiler_options=dict(compiler.options("float32")))(kernel, x)
    y = np.float64(x) @ kernel
    np.testing.assert_allclose(gradient, np.float64(x).T @ (1 - np.tanh(y) ** 2), rtol=1e-4, atol=1e-4)


def test_an_xla_that_does_not_know_them_gets_none(monkeypatch):
    monkeypatch.setattr(compiler, "_EIGEN", {"xla_cpu_no_such_option": "1"})
    assert compiler.options("float32") == {}


def test_factors_in_bfloat16_get_none():
    assert compiler.options("bfloat16") == {}


@pytest.mark.parametrize("matmul_dtype", ["float32", "bfloat16"])
def test_a_gpu_gets_an_option_that_xla_knows(monkeypatch, matmul_dtype):
    with monkeypatch.context() as patched:
        patched.setattr(jax, "default_backend", lambda: "gpu")
        options = compiler.options(matmul_dtype)
    assert options
    assert jax.jit(lambda x: x + 1, compiler_options=dict(options))(1.0) == 2
    with monkeypatch.context() as patched:
        patched.setattr(jax, "default_backend", lambda: "tpu")
        assert compiler.options(matmul_dtype) == {}
