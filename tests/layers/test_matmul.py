"""Products of rounded factors: values against float64, and a whole model that uses them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import base
from ektf_jax.config import Config
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.errors import InputError
from ektf_jax.layers.matmul import bfloat16_product, use_bfloat16
from ektf_jax.training import build

SCHEMA = Schema("tiny", make_fields([("a", 5, 1), ("b", 7, 1), ("c", 4, 2)]), {"train": 8}, {})


def rounded(x: np.ndarray) -> np.ndarray:
    """To the nearest bfloat16, as float64."""
    return np.asarray(jnp.asarray(x).astype(jnp.bfloat16), np.float64)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("rows", [(64,), (8, 5)])
def test_product_and_its_gradients_sum_rounded_factors_in_float32(rows):
    x, kernel, cotangent = normal(0, *rows, 300), normal(1, 300, 40), normal(2, *rows, 40)
    y, pull = jax.vjp(bfloat16_product, x, kernel)
    dx, dkernel = pull(jnp.asarray(cotangent))
    assert y.dtype == dx.dtype == dkernel.dtype == jnp.float32
    a, b, c = map(rounded, (x, kernel, cotangent))
    # Float32 sums of some hundred terms of size 1; a sum in bfloat16 would be off by 0.1.
    np.testing.assert_allclose(y, a @ b, atol=1e-4)
    np.testing.assert_allclose(dx, c @ b.T, atol=1e-4)
    np.testing.assert_allclose(dkernel, a.reshape(-1, 300).T @ c.reshape(-1, 40), atol=1e-4)


def test_every_dense_layer_of_a_model_uses_it():
    layers = nnx.Linear(6, 5, rngs=nnx.Rngs(0)), nnx.Linear(5, 4, rngs=nnx.Rngs(1))
    model, x = nnx.Sequential(*layers), normal(3, 10, 6)
    first, second = (rounded(np.asarray(layer.kernel[...])) for layer in layers)
    use_bfloat16(model)
    np.testing.assert_allclose(model(x), rounded((rounded(x) @ first).astype(np.float32)) @ second, atol=1e-5)


def test_a_training_prediction_is_near_float32s_and_not_equal():
    config = base.get_config().to_dict()
    config["embedding"]["dim"] = 8
    predictions = {}
    for dtype in ("float32", "bfloat16"):
        config["ensemble"]["matmul_dtype"] = dtype
        model = build.make_model(Config.from_dict(config), SCHEMA, jax.random.key(0))
        assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))} == {np.dtype("float32")}
        ids = jnp.asarray([[1, 6, 13, 14], [2, 7, 14, 0], [3, 9, 15, 13]] * 4, jnp.int32)
        predict = jax.jit(lambda model, ids: model(ids, train=True, key=jax.random.key(1)).students)
        predictions[dtype] = np.asarray(predict(model, ids))
    difference = np.abs(predictions["float32"] - predictions["bfloat16"]).max()
    assert 0 < difference < 0.05 * np.abs(predictions["float32"]).max() + 0.02


def test_a_vmapped_stack_on_a_cpu_is_refused():
    config = base.get_config().to_dict()
    config["ensemble"] |= {"matmul_dtype": "bfloat16", "stack": "vmap"}
    with pytest.raises(
        InputError,
        match=r"config\.ensemble\.matmul_dtype = 'bfloat16'.* use config\.ensemble\.stack = 'scan'",
    ):
        build.make_model(Config.from_dict(config), SCHEMA, jax.random.key(0))


def test_an_unknown_value_is_named():
    config = base.get_config().to_dict()
    config["ensemble"]["matmul_dtype"] = "bf16"
    with pytest.raises(InputError, match=r"config\.ensemble\.matmul_dtype 'bf16'|'bf16'.*bfloat16"):
        build.check(Config.from_dict(config))
