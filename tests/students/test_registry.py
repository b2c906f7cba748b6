"""Every student alone, as a stack of copies, and in a mixture of all. Values are random float64 here."""

import importlib
import inspect
import re
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ektf_jax import transfer
from ektf_jax.data.loader import Batch
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.ensemble import Ensemble, StudentGroup
from ektf_jax.layers import blocks
from ektf_jax.students import REGISTRY
from ektf_jax.training import checkpoint
from ektf_jax.training.optimizer import make_optimizer
from ektf_jax.training.step import init_state, make_predict, make_train_step

SCHEMA = Schema("tiny", make_fields([("a", 4, 1), ("b", 5, 3), ("c", 6, 1)]), {}, {})
FIELDS, DIM, ROWS, COPIES = SCHEMA.num_fields, 4, 8, 4
KEY = jax.random.key(7)
RNG = np.random.default_rng(0)
IDS = np.stack([RNG.integers(1, 4, ROWS), *RNG.integers(5, 9, (3, ROWS)), RNG.integers(10, 15, ROWS)], axis=1)
IDS[:3, 3] = 0
LABELS = RNG.integers(0, 2, ROWS).astype(np.float64)

TOWER = {"hidden_units": (6, 4), "dropout": 0.2}
STUDENTS: dict[str, tuple[str, dict]] = {
    "lr": ("lr", {}),
    "lr over ids": ("lr", {"wide": "ids"}),
    "fm": ("fm", {}),
    "fm over ids": ("fm", {"wide": "ids"}),
    "mlp": ("mlp", TOWER),
    "pnn": ("pnn", TOWER),
    "wide_deep": ("wide_deep", TOWER),
    "wide_deep over ids": ("wide_deep", TOWER | {"wide": "ids"}),
    "deepfm": ("deepfm", TOWER),
    "dcn": ("dcn", TOWER),
    "crossnetv2": ("crossnetv2", {}),
    "dcnv2": ("dcnv2", TOWER),
    "cin": ("cin", {"cin_hidden_units": (3, 2)}),
    "xdeepfm": ("xdeepfm", TOWER | {"cin_hidden_units": (3, 2)}),
    "autoint": ("autoint", TOWER | {"num_heads": 2, "layer_norm": True, "wide": "ids"}),
    "afn": ("afn", TOWER | {"afn_hidden_units": (5,)}),
    "afn with its own embedding": ("afn", TOWER | {"afn_hidden_units": (5,), "dnn_embedding": "own"}),
    "edcn": ("edcn", {"dropout": 0.2}),
    "edcn without gates": ("edcn", {"dropout": 0.2, "residual": True, "regulation": False}),
    "masknet parallel": ("masknet", TOWER | {"num_blocks": 2, "block_dim": 5}),
    "masknet serial": ("masknet", TOWER | {"variant": "serial"}),
    "cl4ctr": ("cl4ctr", {"encoder_units": 6, "encoder_layers": 1}),
    "cl4ctr over deepfm": ("cl4ctr", TOWER | {"encoder_units": 6, "encoder_layers": 1, "base": "deepfm"}),
    "eulernet": ("eulernet", {"shape": (4, 4), "explicit_dropout": 0.2, "implicit_dropout": 0.2}),
    "finalmlp": ("finalmlp", TOWER | {"hidden_units2": (4,), "gate_hidden_units": (5,), "num_heads": 2}),
    "final": ("final", TOWER),
    "final with two blocks": ("final", TOWER | {"hidden_units2": (4,), "blocks": 2}),
    "ecn": ("ecn", {"dropout": 0.2}),
    "fcn": ("fcn", {"num_deep_layers": 2, "num_heads": 2}),
    "qnn": ("qnn", {"num_layers": 2, "num_heads": 2, "num_rows": 2, "dropout": 0.2}),
    "dagfm inner": ("dagfm", {"interaction": "inner"}),
    "dagfm outer": ("dagfm", {"interaction": "outer"}),
    "dagfm kernel": ("dagfm", {"interaction": "kernel", "depth": 1}),
}

# One of each: the last of those that share a name, which is the one that owns columns or a loss.
MIXTURE = list({name: label for label, (name, _) in STUDENTS.items()}.values())


def make_student(label):
    name, options = STUDENTS[label]
    return partial(REGISTRY[name], **options)


@pytest.fixture(scope="module", autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def filled(make):
    """The module that `make` makes, with random values everywhere."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        positive = jax.tree_util.keystr(path, simple=True, separator="/").endswith("var")
        return jnp.asarray(rng.uniform(0.5, 2, leaf.shape) if positive else rng.normal(size=leaf.shape))

    graphdef, state = nnx.split(nnx.eval_shape(make))
    values = nnx.to_pure_dict(state)
    nnx.replace_by_pure_dict(state, jax.tree_util.tree_map_with_path(draw, values))
    return nnx.merge(graphdef, state)


@partial(jax.jit, static_argnames="run")
def outcome(run, module, key, cotangent):
    """Logits in both modes; in training own losses, statistics, and gradients of what is trained on."""
    graphdef, parameters, statistics = nnx.split(module, nnx.Param, ...)

    def objective(parameters):
        copy = nnx.merge(graphdef, parameters, statistics, copy=True)
        logits, own = run(copy, True, key)
        return jnp.sum(logits * cotangent) + jnp.sum(own), (logits, own, nnx.state(copy, nnx.BatchStat))

    gradients, (logits, own, after) = jax.grad(objective, has_aux=True)(parameters)
    return {
        "evaluation": run(module, False, key)[0],
        "training": logits,
        "own losses": own,
        "statistics": nnx.to_pure_dict(after),
        "gradients": nnx.to_pure_dict(gradients),
    }


def is_trained(path):
    """False for the biases of linear layers before a BatchNorm, which takes them off again: no gradient."""
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return not re.search(r"(dnn/hidden_layers|students/hidden_layers|afn/hidden_layers|blocks/\d|mlp\d)"
                         r"/linears/\d/bias|layers/\d/linear/bias", name)  # fmt: skip


def assert_close(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)  # type: ignore[operator]  # no stub
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), actual, expected)


@pytest.mark.parametrize(
    "label",
    [
        pytest.param(label, marks=() if label in ("mlp", "ecn", "fcn") else pytest.mark.slow)
        for label in STUDENTS
    ],
)
def test_the_number_of_rows_may_be_open(label):
    """As an exported program has it: no student asks for it as a plain number."""
    (rows,) = jax.export.symbolic_shape("rows")

    def predict(ids):
        model = Ensemble(SCHEMA.fields, [(make_student(label), 2)], embedding_dim=DIM, key=KEY)
        return model(ids)

    found = jax.eval_shape(predict, jax.ShapeDtypeStruct((rows, IDS.shape[1]), jnp.int32))
    assert found.students.shape == (2, rows)


def test_weights_are_in_single_precision_whatever_numbers_are_elsewhere():
    def states():
        students = [(make_student(label), 1) for label in STUDENTS]
        model = Ensemble(SCHEMA.fields, students, embedding_dim=DIM, key=KEY)
        adapters = Ensemble(SCHEMA.fields, [(make_student("mlp"), 2)], embedding_dim=DIM, key=KEY,
                            members="adapters")  # fmt: skip
        return [nnx.state(one, (nnx.Param, nnx.BatchStat)) for one in (model, adapters)]

    leaves = jax.tree.leaves_with_path(jax.eval_shape(states))
    other = {jax.tree_util.keystr(path): leaf.dtype for path, leaf in leaves if leaf.dtype != jnp.float32}
    assert len(leaves) > 200
    assert not other


def test_losses_of_students_themselves_weigh_rows():
    """All but CL4CTR's, which is of representations, not of predictions."""
    having = {}

    def run(label):
        student = make_student(label)(FIELDS, DIM, rngs=nnx.Rngs(0))
        columns = DIM + getattr(student, "own_dim", 0) + getattr(student, "wide_dim", 0)
        takes = inspect.signature(type(student).__call__).parameters
        more = {"labels": LABELS} if "labels" in takes else {}
        output = student(jnp.ones((ROWS, FIELDS, columns)), train=True, key=KEY, **more)
        if isinstance(output, tuple):
            having[label] = "sample_weights" in takes
        return output

    for label in MIXTURE:
        jax.eval_shape(partial(run, label))
    assert having == {"cl4ctr over deepfm": False, "fcn": True, "final with two blocks": True}


# How a stack is run does not depend on the student: where it owns columns or a loss, both ways are tried.
FAST = ("lr", "mlp", "wide_deep over ids", "afn with its own embedding", "final with two blocks")


def _mark(label, fast):
    """Of students that share a name one is enough here: test_parity.py has the gradients of the others."""
    if label in fast:
        return ()
    return pytest.mark.slow if label in MIXTURE else pytest.mark.long


STACKS = [pytest.param(label, "vmap", marks=_mark(label, FAST)) for label in STUDENTS]
STACKS += [pytest.param(label, "scan", marks=_mark(label, FAST[:3])) for label in FAST[2:]]


@pytest.mark.parametrize(("label", "stack"), STACKS)
def test_a_stack_is_its_copies_and_every_parameter_is_trained(label, stack):
    student = partial(make_student(label), FIELDS, DIM)
    group = filled(partial(StudentGroup, student, COPIES, stack=stack, key=KEY))
    columns = group.own_dim + group.wide_dim
    rng = np.random.default_rng(2)
    shared = rng.normal(size=(ROWS, FIELDS, DIM))
    own = rng.normal(size=(COPIES, ROWS, FIELDS, columns)) if columns else None
    cotangent = rng.normal(size=(COPIES, ROWS))

    def run_stack(group, train, key):
        return group(shared, own, train=train, key=key)

    # In numpy: of a JAX array each slice is a program of its own.
    stacked = jax.tree.map(np.asarray, outcome(run_stack, group, KEY, cotangent))
    graphdef, state = nnx.split(group.students)
    state = jax.tree.map(np.asarray, state)
    inputs = [shared if own is None else np.concatenate([shared, own[i]], axis=-1) for i in range(COPIES)]

    def run_copy(both, train, key):
        student, inputs = both
        output = student(inputs, train=train, key=key)
        return output if isinstance(output, tuple) else (output, jnp.zeros(()))

    @jax.jit
    def copy_outcome(state, inputs, key, cotangent):
        run = lambda student, train, key: run_copy((student, inputs), train, key)  # noqa: E731
        return inspect.unwrap(outcome)(run, nnx.merge(graphdef, state), key, cotangent)

    for i, key in enumerate(jax.random.split(KEY, COPIES)):
        alone = copy_outcome(jax.tree.map(lambda x, i=i: x[i], state), inputs[i], key, cotangent[i])
        of_stack = {name: stacked[name] for name in ("evaluation", "training", "own losses")}
        assert_close(jax.tree.map(lambda x, i=i: x[i], of_stack), {name: alone[name] for name in of_stack})
        for name in ("statistics", "gradients"):
            copies = stacked[name].get("students", {})
            assert_close(jax.tree.map(lambda x, i=i: x[i], copies), alone[name])

    assert np.isfinite(stacked["training"]).all()
    for path, gradient in jax.tree_util.tree_flatten_with_path(stacked["gradients"])[0]:
        assert np.isfinite(gradient).all()
        for copy in np.asarray(gradient):
            assert (copy != 0).any() or not is_trained(path), jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    "label",
    [
        "ecn",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("afn", "autoint", "cl4ctr", "eulernet")),
        pytest.param("masknet serial", marks=pytest.mark.slow),
    ],
)
def test_padding_and_extreme_embeddings_have_finite_gradients_in_single_precision(label):
    """Logarithms, phases, roots and norms at 0, where padding is, next to 0, and far from it."""
    with jax.enable_x64(False):
        student = make_student(label)(FIELDS, DIM, rngs=nnx.Rngs(0))
        graphdef, parameters, statistics = nnx.split(student, nnx.Param, ...)
        columns = DIM + getattr(student, "wide_dim", 0)
        embeddings = np.random.default_rng(3).normal(size=(ROWS, FIELDS, columns))
        embeddings *= 10.0 ** np.arange(-6, 2)[:, None, None]
        embeddings[:, 1] = 0
        embeddings[-1] = 0

        @jax.jit
        def gradients(parameters, embeddings):
            def objective(parameters, embeddings):
                student = nnx.merge(graphdef, parameters, statistics, copy=True)
                output = student(embeddings, train=True, key=KEY)
                logits, loss = output if isinstance(output, tuple) else (output, 0.0)
                return jnp.sum(logits**2) + loss

            return jax.value_and_grad(objective, argnums=(0, 1))(parameters, embeddings)

        found = gradients(parameters, embeddings.astype(np.float32))
    for leaf in jax.tree.leaves(found):
        assert leaf.dtype == np.float32
        assert np.isfinite(leaf).all()


# Of columns of its own, wide ones, a loss of its own, and none of them. The step of all compiles for minutes.
SMALL_MIXTURE = ["afn with its own embedding", "wide_deep over ids", "cl4ctr over deepfm", "ecn"]


MIXTURES = [
    pytest.param(SMALL_MIXTURE, marks=pytest.mark.slow),
    pytest.param(MIXTURE, marks=pytest.mark.long),
]
MIXTURE_IDS = ["small", "all"]


@pytest.fixture(scope="module", params=MIXTURES, ids=MIXTURE_IDS)
def mixture(request):
    """A mixture after a step of EKTF: (graphdef, state, metrics, parameters before)."""
    with jax.enable_x64(False):
        students = [(make_student(label), 1) for label in request.param]
        model = Ensemble(SCHEMA.fields, students, embedding_dim=DIM, key=KEY)
        # At its initial 1e-4, products of several embeddings vanish beside Adam's epsilon of 1e-8.
        model.embedding.table[...] *= 1e4
        optimizer = make_optimizer(10.0)
        graphdef, state = init_state(model, optimizer, KEY)
        before = jax.tree.map(np.asarray, state.parameters)
        step = make_train_step(graphdef, optimizer, transfer.make("ektf"), l2=0.0)
        state, metrics = step(state, Batch(IDS.astype(np.int32), LABELS.astype(np.float32)), np.float32(1e-3))
    return graphdef, state, metrics, before


def test_a_mixture_takes_a_training_step_that_moves_every_parameter(mixture):
    _, state, metrics, before = mixture
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(metrics))
    assert metrics.own > 0
    pairs = zip(
        jax.tree_util.tree_flatten_with_path(state.parameters)[0], jax.tree.leaves(before), strict=True
    )
    still = [path for (path, new), old in pairs if (np.asarray(new) == old).all() and is_trained(path)]
    assert [jax.tree_util.keystr(path) for path in still] == []


def test_a_mixture_predicts_the_same_after_saving_and_restoring(mixture, tmp_path):
    graphdef, state, metrics, _ = mixture
    with jax.enable_x64(False):
        predict = make_predict(graphdef)
        batch = Batch(IDS.astype(np.int32), LABELS.astype(np.float32))
        first = predict(state.parameters, state.statistics, batch)
        again = predict(state.parameters, state.statistics, batch)
        with checkpoint.open_checkpoints(tmp_path / "checkpoints") as manager:
            checkpoint.save(manager, 1, state, {})
        with checkpoint.open_checkpoints(tmp_path / "checkpoints") as manager:
            restored, _ = checkpoint.restore(manager, jax.tree.map(jnp.zeros_like, state))
        after = predict(restored.parameters, restored.statistics, batch)
    assert first.students.shape == (len(metrics.terms.scores), ROWS)
    assert first.auxiliary_losses is None
    np.testing.assert_array_equal(again.students, first.students)
    np.testing.assert_array_equal(after.students, first.students)


@pytest.mark.parametrize("labels", MIXTURES, ids=MIXTURE_IDS)
def test_a_mixture_reads_shared_columns_and_each_its_own(labels):
    """Half of the embedding is shared; every student is compared with itself alone on its columns."""
    students = [(make_student(label), 1) for label in labels]
    model = filled(
        partial(Ensemble, SCHEMA.fields, students, embedding_dim=DIM, own_columns=DIM // 2, key=KEY)
    )
    found = jax.jit(lambda model: model(IDS).students)(model)
    shared, table = DIM // 2, model.embedding.table[...]
    own, wide = shared, shared + model.own_dim
    for k, ((make, _), group) in enumerate(zip(students, model.groups, strict=True)):
        to_itself = DIM // 2 + group.own_dim
        columns = [*range(shared), *range(own, own + to_itself), *range(wide, wide + group.wide_dim)]
        own, wide = own + to_itself, wide + group.wide_dim
        alone = nnx.eval_shape(partial(Ensemble, SCHEMA.fields, [(make, 1)], embedding_dim=DIM, key=KEY))
        assert alone.embedding.table.shape == (len(table), len(columns))
        graphdef, state = nnx.split(alone)
        nnx.replace_by_pure_dict(
            state,
            nnx.to_pure_dict(state)
            | {"embedding": {"table": table[:, np.array(columns)]}}
            | {"groups": {0: nnx.to_pure_dict(nnx.state(group))}},
        )
        expected = jax.jit(lambda model: model(IDS).students)(nnx.merge(graphdef, state))
        np.testing.assert_allclose(expected[0], found[k], rtol=1e-12, atol=1e-12, err_msg=labels[k])
    assert own == shared + model.own_dim
    assert wide == table.shape[1]


def test_every_student_is_in_the_mixture():
    assert {STUDENTS[label][0] for label in MIXTURE} == set(REGISTRY)


def test_what_students_are_made_of_still_has_the_name_of_version_0_1_0():
    """Its documentation imported DNN from there; these are all names that were there."""
    former = importlib.import_module("ektf_jax.students.layers")
    names = (
        "EPSILON batch_norm_layer check_choice check_count check_rate check_widths DNN drop dropout"
        " dropout_keys flatten hidden_layer HiddenLayers layer_norm_layer linear norm_relu_drop"
        " norm_relu_dropout product_of_rows Wide"
    )
    for name in names.split():
        with pytest.warns(DeprecationWarning, match=r"is ektf_jax\.layers\.blocks now"):
            assert getattr(former, name) is getattr(blocks, name)
    with pytest.raises(AttributeError, match="no attribute 'DNNN'"):
        _ = former.DNNN
