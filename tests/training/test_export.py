"""Training steps and predictions lower for GPUs and TPUs: no accelerator is needed to see that."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from configs import base, published
from ektf_jax import students, transfer
from ektf_jax.config import Config
from ektf_jax.data.loader import Batch
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.training import build
from ektf_jax.training.optimizer import make_optimizer
from ektf_jax.training.step import init_state, make_predict, make_train_step
from ektf_jax.transfer import TeacherOutputs
from ektf_jax.transfer.eckd import Pupil

SCHEMA = Schema("toy", make_fields([("user", 9, 1), ("tags", 7, 3), ("item", 12, 1), ("shop", 5, 1)]), {}, {})
ROWS, DIM = 32, 4
PLATFORMS = ("cuda", "tpu")


def make_config(labels, **ensemble):
    """A config of small students by name, two copies of each."""
    config = base.get_config().to_dict()
    config["embedding"]["dim"] = DIM
    made = {label: published.settings(label, "ml1m", alone=True)[0] for label in labels if label != "dagfm"}
    for options in made.values():
        if "hidden_units" in options:
            options["hidden_units"] = (20,)
    if "dagfm" in labels:
        made["dagfm"] = {"name": "dagfm"}
    config["ensemble"] |= {"students": made, "num_students": 2 * len(made), **ensemble}
    return config


def export(config, *outputs, wrap=lambda model: model):
    """The step and the prediction of a config, for every platform, from shapes alone."""
    optimizer = make_optimizer(10.0)
    key = jax.random.key(0)
    make = partial(build.make_model, Config.from_dict(config), SCHEMA, key)
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: wrap(make())))
    state = jax.eval_shape(lambda leaves: init_state(nnx.merge(graphdef, leaves), optimizer, key)[1], shapes)
    ids = jax.ShapeDtypeStruct((ROWS, SCHEMA.num_slots), jnp.int32)
    batch = Batch(ids, jax.ShapeDtypeStruct((ROWS,), jnp.float32))
    rate = jax.ShapeDtypeStruct((), jnp.float32)
    step = make_train_step(graphdef, optimizer, transfer.read(Config.from_dict(config).transfer), l2=0.01)
    exported = [
        jax.export.export(step, platforms=PLATFORMS)(state, batch, rate, *outputs),
        jax.export.export(make_predict(graphdef), platforms=PLATFORMS)(
            state.parameters, state.statistics, batch
        ),
    ]
    for found in exported:
        assert found.platforms == PLATFORMS
        assert found.mlir_module()
    return exported[0]


@pytest.mark.parametrize("stack", ["vmap", "scan"])
def test_published_ensembles_lower(stack):
    export(make_config(["mlp", "pnn", "final1b", "ecn"], stack=stack))


@pytest.mark.slow
@pytest.mark.parametrize("stack", ["vmap", pytest.param("scan", marks=pytest.mark.long)])
def test_every_student_lowers(stack):
    labels = [*published.MODELS, "dagfm"]
    assert {published.MODELS.get(label, {"name": label})["name"] for label in labels} == set(
        students.REGISTRY
    )
    config = make_config(labels, stack=stack)
    step = export(config)
    metrics = step.out_tree.unflatten(step.out_avals)[1]
    assert metrics.terms.scores.shape == (2 * len(labels),)


@pytest.mark.parametrize("stack", ["vmap", "scan"])
def test_bfloat16_lowers(stack, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # on a CPU a batched product is refused
    export(make_config(["mlp"], stack=stack, matmul_dtype="bfloat16"))


@pytest.mark.parametrize(
    "name", [name for name, method in transfer.METHODS.items() if name != "ektf" and not method.most_teachers]
)
def test_every_method_lowers(name):
    config = make_config(["mlp"], stack="vmap")
    config["transfer"]["name"] = name
    export(config)


def test_concatenation_lowers():
    config = make_config(["mlp"], stack="vmap", fusion="concat")
    config["transfer"]["name"] = "none"
    export(config)


def test_methods_with_teachers_lower():
    logits = jax.ShapeDtypeStruct((2, ROWS), jnp.float32)
    config = make_config(["mlp"], stack="vmap", num_students=1)
    config["transfer"] |= {"name": "eckd", "teachers": ("one", "other")}
    hidden = tuple(jax.ShapeDtypeStruct((ROWS, size), jnp.float32) for size in (6, 7))
    export(
        config, TeacherOutputs(logits, hidden), wrap=lambda model: Pupil(model, [6, 7], key=jax.random.key(1))
    )
    config = make_config(["dagfm"], stack="vmap", num_students=1)
    config["transfer"] |= {"name": "dagfm", "teachers": ("one",)}
    export(config, TeacherOutputs(jax.ShapeDtypeStruct((1, ROWS), jnp.float32), (None,)))
