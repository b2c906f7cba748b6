"""Values are random float64 here: what remains of a difference is a difference of the computation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ektf_jax import losses
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.ensemble import Ensemble, StudentGroup, count_parameters
from ektf_jax.students import AFN, FCN, FM
from ektf_jax.students.mlp import MLP

SCHEMA = Schema("tiny", make_fields([("a", 4, 1), ("b", 5, 3), ("c", 6, 1)]), {}, {})
DIM, ROWS, COPIES = 2, 8, 3
INIT_KEY, KEY = jax.random.split(jax.random.key(7))
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(ROWS, SCHEMA.num_fields, DIM))
COTANGENT = RNG.normal(size=(COPIES, ROWS))
IDS = np.stack([RNG.integers(1, 4, ROWS), *RNG.integers(5, 9, (3, ROWS)), RNG.integers(10, 15, ROWS)], axis=1)
IDS[:3, 3] = 0

deep = partial(MLP, hidden_units=(6, 5), dropout=0.4)
wide = partial(MLP, hidden_units=(6,), dropout=0.4)
narrow = partial(MLP, hidden_units=(4,), dropout=0.4)


def make_group(stack, student=deep):
    return StudentGroup(partial(student, SCHEMA.num_fields, DIM), COPIES, stack=stack, key=INIT_KEY)


def make_ensemble(students=((wide, 3), (narrow, 2)), **options):
    return Ensemble(SCHEMA.fields, students, embedding_dim=DIM, key=INIT_KEY, **options)


@pytest.fixture(scope="module", autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def filled(make, seed=1):
    """The module that `make` makes, with random values everywhere, drawn in the order of the leaves."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        positive = jax.tree_util.keystr(path, simple=True, separator="/").endswith("var")
        return jnp.asarray(rng.uniform(0.5, 2, leaf.shape) if positive else rng.normal(size=leaf.shape))

    graphdef, state = nnx.split(nnx.eval_shape(make))
    values = nnx.to_pure_dict(state)
    nnx.replace_by_pure_dict(state, jax.tree_util.tree_map_with_path(draw, values))
    return nnx.merge(graphdef, state)


def filled_group(stack):
    return filled(partial(make_group, stack))


def filled_ensemble(**options):
    return filled(partial(make_ensemble, **options))


def arrays(tree):
    return jax.tree.map(np.asarray, nnx.to_pure_dict(tree))


def copy_of(tree, i):
    """One copy out of the leading axis of a stack."""
    return jax.tree.map(lambda x: x[i], tree)


def assert_close(actual, expected, tolerance=1e-10):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)  # type: ignore[operator]  # no stub
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), actual, expected)


@jax.jit
def outcome(module, embeddings, key, cotangent):
    """By mode: the logits, the BatchNorm statistics afterwards, the gradients of sum(logits * cotangent)."""
    graphdef, parameters, statistics = nnx.split(module, nnx.Param, ...)

    def objective(parameters, embeddings, train):
        copy = nnx.merge(graphdef, parameters, statistics, copy=True)
        output = copy(embeddings, train=train, key=key)
        logits = output[0] if isinstance(output, tuple) else output
        return jnp.sum(logits * cotangent), (logits, nnx.state(copy, nnx.BatchStat))

    results = {}
    for mode in ("evaluation", "training"):
        gradient = jax.grad(partial(objective, train=mode == "training"), argnums=(0, 1), has_aux=True)
        (by_parameters, by_embeddings), (logits, after) = gradient(parameters, embeddings)
        results[mode] = {
            "logits": logits,
            "statistics": nnx.to_pure_dict(after),
            "gradients": nnx.to_pure_dict(by_parameters),
            "embeddings": by_embeddings,
        }
    return results


@pytest.fixture(scope="module")
def separate():
    """What separate copies of the group do, each run by itself."""
    graphdef, state = nnx.split(filled_group("vmap").students)
    return [
        outcome(nnx.merge(graphdef, copy_of(state, i)), EMBEDDINGS, key, COTANGENT[i])
        for i, key in enumerate(jax.random.split(KEY, COPIES))
    ]


@pytest.mark.parametrize("stack", ["vmap", "scan"])
def test_a_stack_of_copies_does_what_separate_copies_do(stack, separate):
    stacked = outcome(filled_group(stack), EMBEDDINGS, KEY, COTANGENT)
    for mode in ("evaluation", "training"):
        for i, alone in enumerate(separate):
            of_copy = {
                "logits": stacked[mode]["logits"][i],
                "statistics": copy_of(stacked[mode]["statistics"]["students"], i),
                "gradients": copy_of(stacked[mode]["gradients"]["students"], i),
            }
            assert_close(of_copy, {name: alone[mode][name] for name in of_copy})
        assert_close(stacked[mode]["embeddings"], sum(alone[mode]["embeddings"] for alone in separate))


def test_statistics_move_in_training_and_not_in_evaluation(separate):
    before = arrays(nnx.state(filled_group("vmap").students, nnx.BatchStat))
    for i, alone in enumerate(separate):
        assert_close(alone["evaluation"]["statistics"], copy_of(before, i))
        moved = alone["training"]["statistics"]
        for old, new in zip(jax.tree.leaves(copy_of(before, i)), jax.tree.leaves(moved), strict=True):
            assert (abs(old - new) > 1e-6).all()


def test_equal_copies_differ_by_their_dropout_in_training_only():
    equal = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), filled_group("vmap"))
    results = outcome(equal, EMBEDDINGS, KEY, COTANGENT)
    training, evaluation = results["training"]["logits"], results["evaluation"]["logits"]
    for i in range(1, COPIES):
        assert_close(evaluation[i], evaluation[0])
        assert (training[i] != training[0]).mean() > 0.5
    again = outcome(equal, EMBEDDINGS, INIT_KEY, COTANGENT)
    assert (again["training"]["logits"] != training).mean() > 0.5
    np.testing.assert_array_equal(again["evaluation"]["logits"], evaluation)


@jax.jit
def predict(model, ids, key):
    """By mode: the prediction, and the BatchNorm statistics afterwards."""
    evaluation, training = model(ids), model(ids, train=True, key=key)
    return {
        "evaluation": evaluation._asdict(),
        "training": training._asdict(),
        "statistics": nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)),
    }


@pytest.fixture(scope="module")
def mean():
    return filled_ensemble(fusion="mean", stack="vmap")


@pytest.fixture(scope="module")
def predicted(mean):
    return predict(mean, IDS, KEY)


@pytest.mark.parametrize("mode", ["evaluation", "training"])
def test_vmap_and_scan_give_the_same_students_whose_mean_or_sum_is_the_ensemble(mode, predicted):
    vmapped = predicted
    scanned = predict(filled_ensemble(fusion="sum", stack="scan"), IDS, KEY)
    students = np.asarray(vmapped[mode]["students"])
    assert students.shape == (5, ROWS)
    assert_close(scanned[mode]["students"], students)
    assert_close(scanned["statistics"], vmapped["statistics"])
    assert_close(vmapped[mode]["ensemble"], students.sum(axis=0) / 5)
    assert_close(scanned[mode]["ensemble"], students.sum(axis=0))


def last_hidden_state(student, embeddings):
    """The MLP's in evaluation mode."""
    x = embeddings.reshape(len(embeddings), -1)
    layers = student["hidden_layers"]
    for linear, norm in zip(layers["linears"].values(), layers["norms"].values(), strict=True):
        x = x @ linear["kernel"] + linear["bias"]
        x = (x - norm["mean"]) / np.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
        x = np.maximum(x, 0)
    return x


def test_concat_is_a_linear_layer_over_all_last_hidden_states_however_stacked():
    model = filled_ensemble(fusion="concat", stack="vmap")
    vmapped, scanned = (predict(m, IDS, KEY) for m in (model, filled_ensemble(fusion="concat", stack="scan")))
    assert_close(scanned, vmapped)
    state, embeddings = arrays(nnx.state(model)), np.asarray(model.embedding(IDS))
    states = [
        last_hidden_state(copy_of(group["students"], i), embeddings)
        for group, size in zip(state["groups"].values(), (3, 2), strict=True)
        for i in range(size)
    ]
    hidden = np.concatenate(states, axis=1)
    assert hidden.shape == (ROWS, 3 * 6 + 2 * 4)
    expected = hidden @ state["head"]["kernel"] + state["head"]["bias"]
    assert_close(vmapped["evaluation"]["ensemble"], expected[:, 0])
    for mode in ("evaluation", "training"):
        assert vmapped[mode]["students"].shape == (0, ROWS)
        assert vmapped[mode]["ensemble"].shape == (ROWS,)


def test_students_stand_in_the_order_of_groups_and_copies():
    model, numbers = filled_ensemble(fusion="mean", stack="vmap"), iter(range(5))
    for group in model.groups:
        output = group.students.output
        output.kernel[...] = jnp.zeros_like(output.kernel[...])
        output.bias[...] = jnp.array([[float(next(numbers))] for _ in range(group.size)])
    students = predict(model, IDS, KEY)["evaluation"]["students"]
    np.testing.assert_array_equal(students, np.repeat(np.arange(5.0)[:, None], ROWS, axis=1))


def test_groups_see_the_shared_embeddings_and_draw_dropout_of_their_own(mean, predicted):
    embeddings = np.asarray(mean.embedding(IDS))
    run = jax.jit(lambda group, key: group(embeddings, train=True, key=key)[0])
    by_group = [run(*each) for each in zip(mean.groups, jax.random.split(KEY, 2), strict=True)]
    assert_close(predicted["training"]["students"], jnp.concatenate(by_group))


@pytest.mark.parametrize(("stack", "fusion"), [("vmap", "sum"), ("scan", "mean")])
def test_one_student_is_its_own_ensemble(stack, fusion):
    results = predict(filled_ensemble(students=[(narrow, 1)], stack=stack, fusion=fusion), IDS, KEY)
    for mode in ("evaluation", "training"):
        assert results[mode]["students"].shape == (1, ROWS)
        np.testing.assert_array_equal(results[mode]["students"][0], results[mode]["ensemble"])


def test_copies_are_initialised_as_separate_students_from_their_own_keys():
    stacked = arrays(nnx.state(make_group("vmap", narrow).students))
    for i, key in enumerate(jax.random.split(INIT_KEY, COPIES)):
        alone = narrow(SCHEMA.num_fields, DIM, rngs=nnx.Rngs(key))
        assert_close(copy_of(stacked, i), arrays(nnx.state(alone)), 1e-6)
    kernel = stacked["hidden_layers"]["linears"][0]["kernel"]
    for i in range(COPIES):
        for j in range(i):
            assert (kernel[i] != kernel[j]).all()


def test_the_key_decides_the_initialisation_of_every_part_and_no_two_groups_start_alike():
    students = [(narrow, COPIES), (narrow, COPIES)]
    make = partial(Ensemble, SCHEMA.fields, students, embedding_dim=DIM, fusion="concat")
    models = [make(key=key) for key in (INIT_KEY, INIT_KEY, KEY)]
    drawn = 0
    for value, same, changed in zip(*(jax.tree.leaves(arrays(nnx.state(m))) for m in models), strict=True):
        np.testing.assert_array_equal(value, same)
        if np.unique(value).size > 1:  # the others are constants
            drawn += 1
            assert (value != changed).mean() > 0.5  # the padding rows of the table stay zero
    assert drawn == 1 + 2 * 2 + 1  # table, kernels, head
    first, second = (arrays(nnx.state(group.students))["output"]["kernel"] for group in models[0].groups)
    assert (first != second).all()


def test_auto_is_scan_on_a_cpu_and_vmap_elsewhere(monkeypatch):
    for backend, stack in {"cpu": "scan", "gpu": "vmap", "tpu": "vmap"}.items():
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert nnx.eval_shape(partial(make_group, "auto")).stack == stack


@pytest.mark.parametrize("stack", ["vmap", "scan"])
def test_passes_are_runs_one_after_another_with_dropout_of_their_own(stack):
    group = filled_group(stack)
    graphdef, state = nnx.split(group.students)

    @jax.jit
    def run(group):
        outputs, own = group(EMBEDDINGS, train=True, key=KEY, passes=3)
        return outputs, own, nnx.state(group.students, nnx.BatchStat)

    @jax.jit
    def separately(state, key):
        student = nnx.merge(graphdef, state)
        passes = [student(EMBEDDINGS, train=True, key=k) for k in jax.random.split(key, 3)]
        return jnp.stack(passes), nnx.state(student, nnx.BatchStat)

    outputs, own, statistics = run(group)
    assert outputs.shape == (COPIES, 3, ROWS)
    np.testing.assert_array_equal(own, 0)
    for i, key in enumerate(jax.random.split(KEY, COPIES)):
        logits, after = separately(copy_of(state, i), key)
        assert_close(outputs[i], logits)
        assert_close(arrays(copy_of(statistics, i)), arrays(after))
        assert (outputs[i, 0] != outputs[i, 1]).mean() > 0.5


def test_an_ensemble_of_passes_predicts_their_mean_and_hands_on_their_loss():
    options = {"students": [(deep, 2), (narrow, 1)], "own_columns": 1}
    model = filled_ensemble(passes=2, **options)
    found = jax.jit(lambda model: model(IDS, train=True, key=KEY))(model)
    run = partial(Ensemble._run, ids=IDS, dense=None, method="__call__", train=True, key=KEY, passes=2)
    by_group = jax.jit(lambda model: run(model)[0])(model)
    passes = np.concatenate(by_group)  # [K, P, B]
    p = 1 / (1 + np.exp(-passes))
    mean = p.mean(axis=1)
    assert_close(found.students, np.log(mean / (1 - mean)))
    assert_close(found.ensemble, found.students.mean(axis=0))
    crossed = -(mean[:, None] * np.log(p) + (1 - mean[:, None]) * np.log(1 - p))
    assert_close(found.auxiliary_losses, crossed.mean(axis=2).sum(axis=1))
    # In evaluation a student runs once.
    one = jax.jit(lambda model: model(IDS))
    assert_close(one(model)._asdict(), one(filled_ensemble(passes=1, **options))._asdict())


# Students with columns of their own beside the embedding, and without. Nothing is dropped out.
OWNED = [
    (partial(FM, wide="ids"), 2),
    (
        partial(
            AFN,
            dnn_embedding="own",
            logarithmic_neurons=3,
            afn_hidden_units=(3,),
            afn_dropout=0.0,
            hidden_units=(3,),
            dropout=0.0,
        ),
        2,
    ),
    (partial(narrow, dropout=0.0), 3),
]


@pytest.mark.parametrize(("stack", "passes"), [("vmap", 1), ("scan", 2)])
def test_students_with_tables_of_their_own_train_as_if_alone(stack, passes):
    """Loss (mean over students), L2, gradients: K times theirs are those of K models apart."""
    model = filled_ensemble(students=OWNED, own_columns=DIM, stack=stack, passes=passes)
    labels, l2 = RNG.integers(0, 2, ROWS).astype(float), 0.3

    @jax.jit
    def train(model):
        graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)

        def objective(parameters):
            model = nnx.merge(graphdef, parameters, rest, copy=True)
            prediction = model(IDS, train=True, key=KEY)
            loss, _ = losses.ektf_loss(prediction.students, labels, kd=False, dml=False)
            return loss + jnp.mean(prediction.auxiliary_losses) + l2 / 2 * model.embedding.squares()

        return jax.value_and_grad(objective)(parameters)

    loss, gradients = train(model)
    table = model.embedding.table[...]
    own, wide, apart = 0, model.own_dim, []
    for g, ((make, size), group) in enumerate(zip(OWNED, model.groups, strict=True)):
        for i in range(size):
            width = DIM + group.own_dim
            columns = np.array([*range(own, own + width), *range(wide, wide + group.wide_dim)])
            own, wide = own + width, wide + group.wide_dim
            alone = filled_ensemble(students=[(make, 1)], stack=stack, passes=passes)
            alone.embedding.table[...] = table[:, columns]
            nnx.update(
                alone.groups[0].students, jax.tree.map(lambda x, i=i: x[i : i + 1], nnx.state(group.students))
            )
            single, of_single = train(alone)
            apart.append(single)
            assert_close(
                7 * gradients["embedding"]["table"][...][:, columns], of_single["embedding"]["table"][...]
            )
            copy = jax.tree.map(lambda x, i=i: 7 * x[i : i + 1], arrays(gradients["groups"][g]))
            assert_close(copy, arrays(of_single["groups"][0]))
    assert_close(loss, np.mean(apart))


def test_l2_weighs_what_a_student_reads_whatever_is_shared():
    for own_columns in (0, 1, 2):
        model = filled_ensemble(students=OWNED, own_columns=own_columns)
        table, shared = np.asarray(model.embedding.table[...]), DIM - own_columns
        read, own, wide = [], shared, shared + model.own_dim
        for (_, size), group in zip(OWNED, model.groups, strict=True):
            for _ in range(size):
                width = own_columns + group.own_dim
                columns = [*range(shared), *range(own, own + width), *range(wide, wide + group.wide_dim)]
                own, wide = own + width, wide + group.wide_dim
                read.append((table[:, columns] ** 2).sum())
        assert_close(model.embedding.squares(), np.mean(read))
    model = filled_ensemble()
    assert_close(model.embedding.squares(), (np.asarray(model.embedding.table[...]) ** 2).sum())


@pytest.mark.parametrize("own_columns", [0, 1, 2])
def test_read_columns_are_those_that_a_students_logits_depend_on(own_columns):
    model = filled_ensemble(students=OWNED, own_columns=own_columns)
    graphdef, state = nnx.split(model)

    def logits(table):
        model = nnx.merge(graphdef, state, copy=True)
        model.embedding.table[...] = table
        return jnp.sum(model(IDS).students, axis=1)

    gradients = jax.jit(jax.jacobian(logits))(model.embedding.table[...])
    depends = np.any(np.asarray(gradients) != 0, axis=1)
    wide = model.shared_dim + model.own_dim  # weights of linear models come last, and are no embeddings
    assert model.read_columns() == [np.flatnonzero(row[:wide]).tolist() for row in depends]


@pytest.mark.parametrize("own_columns", [0, 1, 2])
@pytest.mark.parametrize("members", ["separate", "adapters"])
def test_a_student_that_is_cut_out_predicts_as_before(own_columns, members):
    students = OWNED if members == "separate" else OWNED[1:]  # an FM has no kernel to share
    model = filled_ensemble(students=students, own_columns=own_columns, members=members)
    size = sum(count for _, count in students)
    run = jax.jit(lambda model: model(IDS))
    together = run(model)
    for k in range(size):
        alone = run(model.student(k))
        assert_close(alone.students, together.students[k : k + 1])
        assert_close(alone.ensemble, together.students[k])
    assert_close(run(model).students, together.students)  # and the model stays whole
    one = model.student(size - 1)
    assert one.embedding.table[...].shape[1] == DIM + one.groups[0].own_dim + one.groups[0].wide_dim
    for k in (-1, size):
        with pytest.raises(IndexError, match=f"there is no student {k}: the ensemble has {size}"):
            model.student(k)


def test_a_loop_that_is_unrolled_is_the_scan():
    model = filled_ensemble(students=OWNED)
    run = jax.jit(lambda model: model(IDS))
    scanned = run(model)
    for group in model.groups:
        group.stack = "unrolled"
    assert_close(run(model)._asdict(), scanned._asdict())


@pytest.mark.parametrize("own_columns", [-1, 3])
def test_more_own_columns_than_there_are_are_refused(own_columns):
    with pytest.raises(ValueError, match=rf"own_columns = {own_columns} must be in \[0, 2\]"):
        make_ensemble(own_columns=own_columns)


def test_labels_reach_students_whose_own_loss_needs_them():
    """FCN's loss beside an MLP's, which takes no labels; without labels there is none."""
    students = [(partial(FCN, num_deep_layers=1, num_shallow_layers=1), 2), (narrow, 1)]
    model = filled_ensemble(students=students)
    labels = np.arange(ROWS) % 2.0
    run = jax.jit(lambda model, labels: model(IDS, train=True, key=KEY, labels=labels).auxiliary_losses)
    with_labels, without = run(model, labels), run(model, None)
    assert (with_labels[:2] > 0).any()
    assert with_labels[2] == 0
    np.testing.assert_array_equal(without, 0)


def test_an_unknown_fusion_is_refused():
    with pytest.raises(ValueError, match="fusion 'max' is unknown: use one of mean, sum, concat"):
        make_ensemble(fusion="max")


def test_an_unknown_stack_is_refused():
    with pytest.raises(ValueError, match="stack 'loop' is unknown: use one of auto, vmap, scan"):
        make_group("loop")


def test_a_group_of_no_students_is_refused():
    with pytest.raises(ValueError, match="a group of 0 students"):
        StudentGroup(partial(narrow, SCHEMA.num_fields, DIM), 0, key=jax.random.key(0))


def test_an_ensemble_of_no_students_is_refused():
    with pytest.raises(ValueError, match="a student at least"):
        Ensemble(SCHEMA.fields, [], embedding_dim=2, key=jax.random.key(0))


def test_training_without_a_key_is_refused(mean):
    with pytest.raises(ValueError, match="training needs a key for dropout"):
        mean(IDS, train=True)


ML1M = Schema(
    "ml1m",
    make_fields(
        [
            ("user_id", 6042, 1),
            ("gender", 4, 1),
            ("age", 9, 1),
            ("occupation", 23, 1),
            ("movie_id", 3643, 1),
            ("release", 10, 1),
            ("genres", 20, 5),
        ]
    ),
    {},
    {},
)


def ml1m_parameters(students, **options):
    make = partial(Ensemble, ML1M.fields, students, embedding_dim=16, key=KEY, **options)
    return count_parameters(nnx.eval_shape(make))


def test_ml1m_models_have_the_published_numbers_of_parameters():
    assert ml1m_parameters([(MLP, 2)]) == 893_618
    assert ml1m_parameters([(MLP, 10)]) == 3_844_026
    assert ml1m_parameters([(MLP, 1), (MLP, 1)]) == 893_618


def test_a_concat_head_adds_one_weight_per_hidden_unit_and_a_bias():
    assert ml1m_parameters([(MLP, 2)], fusion="concat") == 893_618 + 2 * 400 + 1


def test_a_student_is_made_once_however_many_copies_there_are():
    """To trace it takes most of the time until a run's first step that is not compilation."""
    made = []

    def make(*arguments, **options):
        made.append(arguments)
        return deep(*arguments, **options)

    nnx.eval_shape(partial(make_group, "scan", make))
    assert len(made) == 1
