"""The training step against a plain float64 transcription, and what the loop relies on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from ektf_jax import sharding, transfer
from ektf_jax.data.loader import Batch
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.ensemble import Ensemble
from ektf_jax.students.mlp import MLP
from ektf_jax.training.optimizer import make_optimizer
from ektf_jax.training.step import (
    from_saved_form,
    init_state,
    init_state_on,
    make_predict,
    make_train_step,
    saved_form,
)
from tests.compilation import optimizations
from tests.training import version_0_1_0

SCHEMA = Schema("tiny", make_fields([("a", 4, 1), ("b", 5, 2)]), {}, {})
DIM, ROWS, K, L2, CLIP = 2, 6, 2, 0.5, 10.0
SEED = 5


def make_batch(seed):
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(1, 4, ROWS), *rng.integers(5, 9, (2, ROWS))], axis=1).astype(np.int32)
    ids[0, 2] = 0
    return Batch(ids, rng.integers(0, 2, ROWS).astype(np.float32))


def make_model(dtype, *, dropout, table_scale=1.0):
    """Two small MLPs whose values are random, the table `table_scale` times as large as the others."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        value = rng.uniform(0.5, 2, leaf.shape) if name.endswith("var") else rng.normal(size=leaf.shape)
        if name.endswith("table"):
            value = table_scale * value
            value[[field.offset for field in SCHEMA.fields]] = 0
        return jnp.asarray(value, dtype)

    students = [(partial(MLP, hidden_units=(3,), dropout=dropout), K)]
    make = partial(Ensemble, SCHEMA.fields, students, embedding_dim=DIM, stack="vmap")
    graphdef, state = nnx.split(nnx.eval_shape(lambda: make(key=jax.random.key(0))))
    nnx.replace_by_pure_dict(state, jax.tree_util.tree_map_with_path(draw, nnx.to_pure_dict(state)))
    return nnx.merge(graphdef, state)


def start(dtype=jnp.float32, *, dropout=0.5, seed=SEED, **options):
    """Graphdef and a state that shares no buffer with another: steps donate it, the key included."""
    return init_state(
        make_model(dtype, dropout=dropout, **options), make_optimizer(CLIP), jax.random.key(seed)
    )


def arrays(tree):
    return jax.tree.map(np.asarray, nnx.to_pure_dict(tree) if isinstance(tree, nnx.State) else tree)


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def transcribed_students(parameters, statistics, ids, *, train):
    """Logits [K, B] and, in training, the running statistics afterwards: (mean, var) per student."""
    table = parameters["embedding"]["table"]
    filled = (ids[:, 1:] != 0)[..., None]
    b = (table[ids[:, 1:]] * filled).sum(axis=1) / filled.sum(axis=1)
    inputs = jnp.concatenate([table[ids[:, 0]], b], axis=1)
    students, old = parameters["groups"][0]["students"], statistics["groups"][0]["students"]
    layer, norm = (students["hidden_layers"][name][0] for name in ("linears", "norms"))
    old, output = old["hidden_layers"]["norms"][0], students["output"]
    logits, running = [], []
    for k in range(K):
        x = inputs @ layer["kernel"][k] + layer["bias"][k]
        mean, var = (x.mean(axis=0), x.var(axis=0)) if train else (old["mean"][k], old["var"][k])
        x = jax.nn.relu((x - mean) / jnp.sqrt(var + 1e-5) * norm["scale"][k] + norm["bias"][k])
        logits.append((x @ output["kernel"][k] + output["bias"][k])[:, 0])
        running.append((0.9 * old["mean"][k] + 0.1 * mean, 0.9 * old["var"][k] + 0.1 * var))
    return jnp.stack(logits), running


def transcribed_objective(parameters, statistics, ids, labels):
    """Cross-entropy of the mean logit and L2 over the whole table."""
    logits, running = transcribed_students(parameters, statistics, ids, train=True)
    p = jax.nn.sigmoid(logits.mean(axis=0))
    ctr = -jnp.mean(labels * jnp.log(p) + (1 - labels) * jnp.log(1 - p))
    penalty = L2 / 2 * (parameters["embedding"]["table"] ** 2).sum()
    return ctr + penalty, (ctr, penalty, running)


transcribed_gradient = jax.jit(jax.value_and_grad(transcribed_objective, has_aux=True))


class Transcribed:
    """The authors' step: gradients clipped by their global norm, then Adam as published."""

    def __init__(self, parameters, statistics):
        self.parameters, self.statistics = parameters, statistics
        self.first = self.second = jax.tree.map(np.zeros_like, parameters)
        self.steps = 0

    def step(self, ids, labels, learning_rate):
        (loss, (ctr, penalty, running)), gradient = transcribed_gradient(
            self.parameters, self.statistics, ids, labels
        )
        norm = np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradient)))
        gradient = jax.tree.map(lambda g: np.asarray(g) * min(1, CLIP / norm), gradient)
        self.steps += 1
        self.first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, self.first, gradient)
        self.second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, self.second, gradient)
        unbiased_1, unbiased_2 = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        self.parameters = jax.tree.map(
            lambda p, m, v: p - learning_rate * (m / unbiased_1) / (np.sqrt(v / unbiased_2) + 1e-8),
            self.parameters,
            self.first,
            self.second,
        )
        mean, var = (np.stack(parts) for parts in zip(*running, strict=True))
        norms = {0: {"mean": mean, "var": var}}
        self.statistics = {"groups": {0: {"students": {"hidden_layers": {"norms": norms}}}}}
        return {"loss": loss, "ctr": ctr, "l2": penalty, "gradient_norm": norm}


@pytest.fixture(scope="module")
def exact_step():
    """The step without dropout, for float64 states."""
    with jax.enable_x64(True):
        graphdef, _ = start(jnp.float64, dropout=0.0)
    return make_train_step(graphdef, make_optimizer(CLIP), transfer.make("none"), l2=L2)


@pytest.mark.parametrize(("table_scale", "bites"), [(1.0, False), (30.0, True)])
def test_steps_agree_with_the_transcription_whether_the_clip_bites_or_not(exact_step, table_scale, bites):
    with jax.enable_x64(True):
        _, state = start(jnp.float64, dropout=0.0, table_scale=table_scale)
        plain = Transcribed(arrays(state.parameters), arrays(state.statistics))
        for number, learning_rate in enumerate([0.1, 0.1, 0.01]):
            ids, labels, *_ = make_batch(number)
            state, metrics = exact_step(state, Batch(ids, labels), np.float64(learning_rate))
            expected = plain.step(ids, labels, learning_rate)
            assert (expected["gradient_norm"] > CLIP) == bites
            close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-8)
            close(metrics.loss, expected["loss"])
            close(metrics.terms.ctr, expected["ctr"])
            close(metrics.l2, expected["l2"])
            close(metrics.gradient_norm, expected["gradient_norm"])
            jax.tree.map(close, arrays(state.parameters), plain.parameters)
            jax.tree.map(close, arrays(state.statistics), plain.statistics)
        assert int(state.step) == 3


def make_random_step():
    return make_train_step(start()[0], make_optimizer(CLIP), transfer.make("ektf"), l2=L2)


@pytest.fixture(scope="module")
def random_step():
    """The step as the loop runs it: float32, dropout, the EKTF loss."""
    return make_random_step()


# BatchNorm takes the bias before it out again: its gradient is exactly 0.
BEFORE_BATCH_NORM = "linears/0/bias"


def named(tree):
    """Every leaf with its path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    return [(path.removesuffix("/value"), leaf) for path, (_, leaf) in zip(paths, leaves, strict=True)]


RATE, STILL = np.float32(1e-3), np.float32(0)
BATCH = make_batch(0)


def test_the_counter_counts_and_the_key_stays(random_step):
    _, state = start()
    assert state.step == 0
    for number in range(1, 4):
        state, _ = random_step(state, BATCH, RATE)
        assert int(state.step) == number
        assert state.step.dtype == jnp.int32
        np.testing.assert_array_equal(state.key, jax.random.key_data(jax.random.key(SEED)))


def test_equal_states_give_equal_bits(random_step):
    assert_equal(arrays(random_step(start()[1], BATCH, RATE)), arrays(random_step(start()[1], BATCH, RATE)))


def test_dropout_differs_from_step_to_step_and_from_key_to_key(random_step):
    state, first = random_step(start()[1], BATCH, STILL)
    _, second = random_step(state, BATCH, STILL)
    _, other = random_step(start(seed=6)[1], BATCH, STILL)
    # At rate 0 the parameters stand still, and statistics do not matter in training.
    assert len({float(metrics.terms.ctr) for metrics in (first, second, other)}) == 3
    assert first.l2 == second.l2 == other.l2


def test_learning_rate_zero_leaves_the_parameters_and_moves_the_rest(random_step):
    before = arrays(start()[1].parameters)
    state, _ = random_step(start()[1], BATCH, STILL)
    assert_equal(arrays(state.parameters), before)
    optimizer = state.optimizer
    still = [name for name, leaf in named(arrays(optimizer)) if not np.any(leaf)]
    assert all(name.endswith(BEFORE_BATCH_NORM) for name in still)


def test_a_step_moves_every_copys_parameters_and_statistics(random_step):
    _, state = start()
    before = [arrays(state.parameters), arrays(state.statistics)]
    state, _ = random_step(state, BATCH, RATE)
    for name, old, new in zip(
        ("parameters", "statistics"),
        before,
        [arrays(state.parameters), arrays(state.statistics)],
        strict=True,
    ):
        for copy in range(K):
            changed = jax.tree.map(
                lambda a, b, k=copy: bool((a[k] != b[k]).any()), old["groups"], new["groups"]
            )
            still = [leaf for leaf, moved in named(changed) if not moved]
            assert all(leaf.endswith(BEFORE_BATCH_NORM) for leaf in still), name
    assert len(jax.tree.leaves(before[1])) == 2


def test_padding_rows_of_the_table_stay_zero(random_step):
    _, state = start()
    for number in range(3):
        state, _ = random_step(state, make_batch(number), RATE)
    table = np.asarray(state.parameters["embedding"]["table"][...])
    padding = [field.offset for field in SCHEMA.fields]
    assert not table[padding].any()
    assert np.delete(table, padding, axis=0).all()


def test_another_learning_rate_or_a_stepped_state_does_not_compile_again(random_step):
    _, state = start()
    for rate in (1e-3, 1e-4, 1e-5):
        state, _ = random_step(state, BATCH, np.float32(rate))
    assert random_step._cache_size() == 1


def test_the_old_state_is_donated(random_step):
    _, old = start()
    leaves = jax.tree.leaves(old)
    new, _ = random_step(old, BATCH, RATE)
    assert all(leaf.is_deleted() for leaf in leaves)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(new))


OPTIMIZERS = {
    "reads_the_parameters": optax.adamw(0.1, weight_decay=0.1),
    "schedule": optax.adamax(optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 4)),
    "injected": optax.inject_hyperparams(optax.rmsprop)(learning_rate=0.1),
    "every_second_step": optax.MultiSteps(optax.sgd(0.1, momentum=0.9), 2),
    "line_search": optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(2)),
    "groups": optax.partition(
        {"table": optax.sgd(0.2), "rest": optax.adam(0.1)},
        lambda tree: jax.tree_util.tree_map_with_path(
            lambda path, _: "table" if "table" in jax.tree_util.keystr(path) else "rest", tree
        ),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optax_optimizer_does_what_it_does_in_a_plain_optax_loop(name):
    optimizer = OPTIMIZERS[name]
    update = optax.with_extra_args_support(optimizer).update

    @jax.jit
    def plain(parameters, statistics, optimizer_state, ids, labels):
        (value, _), gradient = transcribed_gradient(parameters, statistics, ids, labels)
        updates, optimizer_state = update(
            gradient,
            optimizer_state,
            parameters,
            value=value,
            grad=gradient,
            value_fn=lambda p: transcribed_objective(p, statistics, ids, labels)[0],
        )
        return optax.apply_updates(parameters, updates), optimizer_state, value

    with jax.enable_x64(True):
        graphdef, state = init_state(make_model(jnp.float64, dropout=0.0), optimizer, jax.random.key(SEED))
        step = make_train_step(graphdef, optimizer, transfer.make("none"), l2=L2)
        parameters, statistics = arrays(state.parameters), arrays(state.statistics)
        optimizer_state = optimizer.init(parameters)
        for number in range(4):
            ids, labels, *_ = make_batch(number)
            parameters, optimizer_state, value = plain(parameters, statistics, optimizer_state, ids, labels)
            state, metrics = step(state, Batch(ids, labels))
            np.testing.assert_allclose(metrics.loss, value, rtol=1e-6)
            jax.tree.map(
                partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-8),
                arrays(state.parameters),
                arrays(parameters),
            )


def test_an_ordinary_adam_makes_the_loss_fall():
    graphdef, state = init_state(make_model(jnp.float32, dropout=0.0), optax.adam(1e-2), jax.random.key(0))
    step = make_train_step(graphdef, optax.adam(1e-2), transfer.make("ektf"), l2=0.0)
    history = []
    for _ in range(20):
        state, metrics = step(state, BATCH)
        history.append(float(metrics.loss))
    assert np.all(np.diff(history) < 0)


def test_the_default_optimizer_has_the_bits_of_version_0_1_0():
    """p + (-rate * u) is p - rate * u, to the bit: XLA may contract either into one rounding, but alike."""
    with optimizations(True):
        assert_the_bits_of_version_0_1_0(make_random_step())


def assert_the_bits_of_version_0_1_0(random_step):
    old_optimizer = version_0_1_0.make_optimizer(CLIP)
    graphdef, old = init_state(make_model(jnp.float32, dropout=0.5), old_optimizer, jax.random.key(SEED))
    old_step = version_0_1_0.make_train_step(graphdef, old_optimizer, transfer.make("ektf"), l2=L2)
    _, state = start()
    for number, rate in enumerate([1e-1, 1e-2, 1e-2, 1e-3, 1e-6, 1e-6, 0.3, 1e-3]):
        batch = make_batch(number)
        old, old_metrics = old_step(old, batch.ids, batch.labels, np.float32(rate))
        state, metrics = random_step(state, batch, np.float32(rate))
        assert_equal(arrays(metrics), arrays(old_metrics))
        assert_equal(arrays(state.parameters), arrays(old.parameters))
        assert_equal(arrays(saved_form(state).optimizer), arrays(old.optimizer))


def test_a_rate_that_would_not_be_used_is_refused():
    optimizer = optax.adam(1e-3)
    graphdef, state = init_state(make_model(jnp.float32, dropout=0.0), optimizer, jax.random.key(0))
    step = make_train_step(graphdef, optimizer, transfer.make("ektf"), l2=L2)
    with pytest.raises(ValueError, match=r"a learning rate of its own; give a function"):
        step(state, BATCH, RATE)


def test_a_checkpoint_holds_what_version_0_1_0_held():
    state = start()[1]
    saved = saved_form(state)
    old = init_state(
        make_model(jnp.float32, dropout=0.5), version_0_1_0.make_optimizer(CLIP), jax.random.key(SEED)
    )[1]
    assert jax.tree.structure(saved) == jax.tree.structure(old)  # type: ignore[operator]  # no stub
    assert_equal(arrays(from_saved_form(saved, state)), arrays(state))
    for other in (
        optax.adam(1e-3),
        optax.inject_hyperparams(optax.adam)(1e-3),
        optax.chain(optax.identity(), optax.chain(optax.trace(0.9), optax.identity()), optax.adam(1e-3)),
        optax.MultiSteps(optax.sgd(1), 2),
    ):
        state = init_state(make_model(jnp.float32, dropout=0.5), other, jax.random.key(SEED))[1]
        again = from_saved_form(saved_form(state), state)
        assert jax.tree.structure(again) == jax.tree.structure(state)  # type: ignore[operator]  # no stub
        assert_equal(arrays(again), arrays(state))


@pytest.mark.parametrize("optimizer", [optax.novograd(1e-3), optax.adafactor(1e-3, min_dim_size_to_factor=2)])
def test_an_optimizer_whose_state_is_shaped_unlike_the_parameters_runs_on_a_mesh(optimizer):
    mesh = sharding.make_mesh()
    make = partial(make_model, jnp.float32, dropout=0.0)
    graphdef, state = init_state_on(mesh, make, optimizer, jax.random.key(1))
    step = make_train_step(graphdef, optimizer, transfer.make("ektf"), l2=L2, mesh=mesh)
    state, metrics = step(state, BATCH)
    assert np.isfinite(metrics.loss)


def test_a_model_is_made_once_and_in_one_program_for_its_description_and_its_state(caplog):
    made = []

    def make():
        made.append(0)
        return make_model(jnp.float32, dropout=0.0)

    optimizer, key = optax.adam(1e-3), jax.random.key(1)
    with jax.log_compiles():
        graphdef, state = init_state_on(sharding.make_mesh(), make, optimizer, key)
    assert len(made) == 1
    assert caplog.text.count("Finished XLA compilation") == 1
    expected, like = init_state(make(), optimizer, key)
    assert graphdef == expected
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(like), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_predictions_are_those_of_the_transcription_in_evaluation_mode():
    with jax.enable_x64(True):
        graphdef, state = start(jnp.float64)
        prediction = make_predict(graphdef)(state.parameters, state.statistics, BATCH)
        students, _ = transcribed_students(
            arrays(state.parameters), arrays(state.statistics), BATCH[0], train=False
        )
        np.testing.assert_allclose(prediction.students, students, rtol=1e-9)
        np.testing.assert_allclose(prediction.ensemble, students.mean(axis=0), rtol=1e-9)
