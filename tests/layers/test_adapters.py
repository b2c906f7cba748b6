"""Members that share kernels, against separate students whose kernels are the scaled ones."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, PartitionSpec

from ektf_jax import ensemble as ensemble_module
from ektf_jax import losses, sharding, summary
from ektf_jax.data.schema import make_fields
from ektf_jax.ensemble import Ensemble, StudentGroup, count_parameters
from ektf_jax.errors import InputError
from ektf_jax.layers import adapters
from ektf_jax.students import REGISTRY

FIELDS, DIM, SIZE, ROWS = 3, 4, 3, 16
RNG = np.random.default_rng(0)
EMBEDDINGS = jnp.asarray(RNG.standard_normal((ROWS, FIELDS, DIM)))
LABELS = jnp.asarray(RNG.integers(0, 2, ROWS).astype(float))
KEY = jax.random.key(1)
STUDENTS = {
    "mlp": partial(REGISTRY["mlp"], hidden_units=(6, 5), dropout=0.3),
    "qnn": partial(REGISTRY["qnn"], num_layers=2, num_heads=2),
    "ecn": partial(REGISTRY["ecn"], num_cross_layers=2),
    "finalmlp": partial(REGISTRY["finalmlp"], hidden_units=(6,), hidden_units2=(4,), num_heads=2),
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def filled(make):
    """A module with random numbers for all that it has: scales and statistics of 1 hide mistakes."""
    graphdef, state = nnx.split(nnx.eval_shape(make))
    rng = np.random.default_rng(2)
    return nnx.merge(graphdef, jax.tree.map(lambda x: jnp.asarray(0.5 + 0.5 * rng.random(x.shape)), state))


def group(name, stack, size=SIZE):
    make = partial(adapters.make_member, STUDENTS[name], FIELDS, DIM)
    return StudentGroup(make, size, stack=stack, key=jax.random.key(0))


def scaled(tree):
    """A member's arrays without its scales, the kernels multiplied by them."""
    if not isinstance(tree, dict):
        return tree
    inner = {key: scaled(value) for key, value in tree.items() if not str(key).endswith("_scale")}
    if "input_scale" in tree:
        inner["kernel"] = np.einsum("i,io,o->io", tree["input_scale"], tree["kernel"], tree["output_scale"])
    return inner


def separate(stacked, name, index):
    """A plain student that is to do what member `index` does, and the member."""
    graphdef, shared, rest = nnx.split(stacked.students, adapters.SharedKernel, ...)
    member = nnx.merge(graphdef, shared, jax.tree.map(lambda x: x[index], rest))
    graphdef, state = nnx.split(nnx.eval_shape(lambda: STUDENTS[name](FIELDS, DIM, rngs=nnx.Rngs(0))))
    nnx.replace_by_pure_dict(state, scaled(nnx.to_pure_dict(nnx.state(member))))
    return nnx.merge(graphdef, state), member


@pytest.mark.parametrize(
    "name", ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in list(STUDENTS)[1:])]
)
@pytest.mark.parametrize("stack", [pytest.param("vmap", marks=pytest.mark.slow), "scan"])
def test_a_member_is_a_student_with_scaled_kernels(name, stack):
    stacked = filled(partial(group, name, stack))
    keys = jax.random.split(KEY, SIZE)
    pairs = [separate(stacked, name, k) for k in range(SIZE)]

    @nnx.jit(static_argnames="train")
    def predict(model, embeddings, train, key):
        return model(embeddings, train=train, key=key)

    for train in (False, True):
        found, _ = predict(stacked, EMBEDDINGS, train=train, key=KEY)
        for k, (plain, member) in enumerate(pairs):
            expected = predict(plain, EMBEDDINGS * member.embedding_scale[...], train=train, key=keys[k])
            np.testing.assert_allclose(found[k], expected, rtol=1e-10)


def test_the_gradient_of_a_kernel_is_the_sum_of_the_members():
    stacked = filled(partial(group, "mlp", "scan"))
    graphdef, parameters, rest = nnx.split(stacked, nnx.Param, ...)

    def objective(parameters):
        outputs, _ = nnx.merge(graphdef, parameters, rest, copy=True)(EMBEDDINGS, key=KEY)
        return losses.ektf_loss(outputs, LABELS, kd=False, dml=False)[0]

    gradients = nnx.to_pure_dict(jax.grad(objective)(parameters))["students"]["output"]
    total = 0
    for k in range(SIZE):
        plain, member = separate(stacked, "mlp", k)
        apart, weights, others = nnx.split(plain, nnx.Param, ...)

        def alone(weights, apart=apart, others=others, member=member):
            logits = nnx.merge(apart, weights, others)(EMBEDDINGS * member.embedding_scale[...])
            return losses.ektf_loss(logits[None], LABELS, kd=False, dml=False)[0] / SIZE

        kernel = nnx.to_pure_dict(jax.grad(alone)(weights))["output"]["kernel"]
        total += member.output.input_scale[:, None] * kernel * member.output.output_scale[...]
    np.testing.assert_allclose(gradients["kernel"], total, rtol=1e-10)


@pytest.mark.parametrize("name", ["mlp", pytest.param("qnn", marks=pytest.mark.slow)])
def test_members_are_computed_again_for_their_gradients(monkeypatch, name):
    """In training 32 of them take the temporary memory of few, and have the gradients of kept activations."""
    inputs = jnp.asarray(RNG.standard_normal((2048, FIELDS, DIM)), jnp.float32)
    labels = jnp.asarray(RNG.integers(0, 2, 2048), jnp.float32)

    def compiled(size):
        graphdef, parameters, rest = nnx.split(group(name, "scan", size), nnx.Param, ...)

        def objective(parameters):
            model = nnx.merge(graphdef, parameters, rest, copy=True)
            outputs, _ = model(inputs, train=True, key=KEY)
            return losses.ektf_loss(outputs, labels, kd=False, dml=False)[0]

        program = jax.jit(jax.value_and_grad(objective)).lower(parameters).compile()
        return program, parameters, program.memory_analysis().temp_size_in_bytes

    again, parameters, few = compiled(32)
    monkeypatch.setattr(ensemble_module, "KEEP_UP_TO", 32)
    kept, _, much = compiled(32)
    one = compiled(1)[2]
    assert few < 4 * one < much / 4
    for ours, theirs in zip(*map(jax.tree.leaves, (again(parameters), kept(parameters))), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_members_start_with_random_signs_and_ones_and_part():
    stacked = group("mlp", "scan", size=64)
    scale = np.asarray(stacked.students.embedding_scale[...])
    assert set(np.unique(scale)) == {-1.0, 1.0}
    assert len(np.unique(scale.reshape(64, -1), axis=0)) > 60
    for layer in (*stacked.students.hidden_layers.linears, stacked.students.output):
        assert layer.kernel[...].ndim == 2
        assert (layer.input_scale[...] == 1).all()
        assert (layer.output_scale[...] == 1).all()
    logits, _ = stacked(EMBEDDINGS.astype(np.float32), key=KEY)
    assert len(np.unique(np.asarray(logits), axis=0)) > 60


def ensemble(members, size, name="mlp", stack="scan"):
    fields = make_fields([("a", 9, 1), ("b", 7, 1), ("c", 5, 2)])
    options = {"embedding_dim": DIM, "members": members, "stack": stack, "key": KEY}
    return Ensemble(fields, [(STUDENTS[name], size)], **options)


def test_a_member_costs_its_scales_biases_and_norms():
    table = 21 * DIM
    kernels = 12 * 6 + 6 * 5 + 5
    scales = 12 + 6 + 6 + 5 + 5 + 1  # inputs and outputs of three layers
    each = FIELDS * DIM + scales + (6 + 5 + 1) + 2 * (6 + 5)
    for size in (1, 2, 32):
        shapes = nnx.eval_shape(partial(ensemble, "adapters", size))
        assert count_parameters(shapes) == table + kernels + size * each
    shown = summary.summarize(nnx.eval_shape(lambda: ensemble("adapters", 32)), FIELDS)
    assert f"32 x MLP: {kernels + each:,} parameters, {kernels:,} of them shared, and" in shown


def test_separate_members_are_what_they_were():
    """Without adapters nothing is scaled and nothing drawn: the arrays are those of copies."""
    state = nnx.state(nnx.eval_shape(lambda: ensemble("separate", 3)))
    assert not jax.tree.leaves(nnx.filter_state(state, adapters.SharedKernel))
    assert nnx.to_pure_dict(state)["groups"][0]["students"]["output"]["kernel"].shape == (3, 5, 1)


def test_shared_kernels_are_on_every_device_and_the_rest_is_split_by_members():
    mesh = AbstractMesh((1, 2, 1), sharding.AXES)
    placed = nnx.to_pure_dict(
        sharding.state_shardings(nnx.state(nnx.eval_shape(lambda: ensemble("adapters", 4))), mesh)
    )
    layer = placed["groups"][0]["students"]["hidden_layers"]["linears"][0]
    assert layer["kernel"].spec == PartitionSpec()
    for name in ("input_scale", "output_scale", "bias"):
        assert layer[name].spec == PartitionSpec(sharding.STUDENT)


def test_a_student_without_linear_layers_is_refused():
    with pytest.raises(InputError, match=r"LR has no linear layer to share"):
        adapters.make_member(partial(REGISTRY["lr"], wide="ids"), FIELDS, DIM, rngs=nnx.Rngs(0))


def test_an_unknown_kind_of_members_is_refused():
    with pytest.raises(ValueError, match="members 'half' is unknown: use one of separate, adapters"):
        ensemble("half", 2)
