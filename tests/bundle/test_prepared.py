"""What becomes an ONNX graph: a model that predicts the same, without BatchNorm in hidden layers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ektf_jax.bundle import onnx
from ektf_jax.data.schema import make_fields
from ektf_jax.ensemble import Ensemble
from ektf_jax.layers.blocks import HiddenLayers
from ektf_jax.students import REGISTRY

FIELDS = make_fields([("user", 20, 1), ("tags", 9, 3), ("city", 5, 1)])


def trained(members):
    """Students whose BatchNorm has seen something: every parameter and statistic is random."""
    mlp, dcn = (
        partial(REGISTRY[name], hidden_units=(8, 6), dropout=0.1, batch_norm=True) for name in ("mlp", "dcn")
    )
    options = {"embedding_dim": 4, "members": members, "stack": "vmap", "key": jax.random.key(0)}
    graphdef, state = nnx.split(nnx.eval_shape(lambda: Ensemble(FIELDS, [(mlp, 3), (dcn, 1)], **options)))
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        positive = jax.tree_util.keystr(path, simple=True, separator="/").endswith("var/value")
        return jnp.asarray(rng.uniform(0.5 if positive else -1, 1.5, leaf.shape), leaf.dtype)

    return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(draw, state))


@jax.jit
def predict(model, ids):
    return model(ids)


def norms(model):
    return [len(module.norms) for _, module in nnx.iter_graph(model) if isinstance(module, HiddenLayers)]


@pytest.mark.parametrize(("members", "left"), [("separate", [0, 0]), ("adapters", [2, 2])])
def test_predictions_are_the_same_and_the_model_is_as_it_was(members, left):
    model = trained(members)
    ids = np.stack([np.arange(1, 5)] * 5, axis=1).astype(np.int32)
    expected = predict(model, ids)
    prepared = onnx.prepared(model)
    assert norms(prepared) == left
    assert norms(model) == [2, 2]
    found = predict(prepared, ids)
    np.testing.assert_allclose(found.students, expected.students, rtol=1e-5)
    np.testing.assert_allclose(found.ensemble, expected.ensemble, rtol=1e-5)
    assert np.ptp(np.asarray(expected.students)) > 0.1
