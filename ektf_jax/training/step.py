"""The training step: one pure function of (state, batch), with any optax optimizer, and donated state."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jax.typing import ArrayLike

from ektf_jax import losses, sharding
from ektf_jax.ensemble import Ensemble, Prediction
from ektf_jax.transfer import Lesson
from ektf_jax.transfer.method import Loss


class TrainState(NamedTuple):
    """Everything that a step changes. `key` is the raw data of the run's dropout key, folded with `step`."""

    parameters: nnx.State
    statistics: nnx.State
    optimizer: optax.OptState
    step: jax.Array
    key: jax.Array


class StepMetrics(NamedTuple):
    """What a step reports: the training loss, its parts and the gradient's global norm.

    `own` is the mean over students of the losses that they add by themselves, `l2` the penalty.
    """

    loss: jax.Array
    terms: losses.Terms
    own: jax.Array
    l2: jax.Array
    gradient_norm: jax.Array


TrainStep = Callable[..., tuple[TrainState, StepMetrics]]
Predict = Callable[[nnx.State, nnx.State, ArrayLike], Prediction]


def make_optimizer(clip_norm: float, learning_rate: float = 1e-3) -> optax.GradientTransformation:
    """Adam after clipping by global norm, with a learning rate that can be set: the plateau changes it."""
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.scale_by_adam(),
        optax.inject_hyperparams(optax.scale_by_learning_rate)(learning_rate),
    )


def set_learning_rate(state: optax.OptState, learning_rate: ArrayLike) -> optax.OptState:
    """An optimizer's state with another value for every learning rate of `optax.inject_hyperparams`.

    Raises ValueError where there is none, or where a schedule sets it, which would win.
    """
    found = []

    def put(node: Any) -> Any:
        if not _injected(node) or "learning_rate" not in node.hyperparams:
            return node
        if "learning_rate" in node.hyperparams_states:
            raise ValueError("the optimizer's learning rate is a schedule, which no value can replace")
        found.append(node)
        rate = jnp.asarray(learning_rate, jnp.result_type(node.hyperparams["learning_rate"]))
        return node._replace(hyperparams=node.hyperparams | {"learning_rate": rate})

    state = jax.tree.map(put, state, is_leaf=_injected)
    if not found:
        raise ValueError(
            "the optimizer has no learning rate that can be set: leave it to the optimizer, or make that with"
            " optax.inject_hyperparams, as in optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)"
        )
    return state


def without_learning_rate(state: TrainState) -> TrainState:
    """What a checkpoint holds: all but the part of the optimizer that is its learning rate and nothing else.

    The rate is the plateau's, which a run's progress has. So `make_optimizer`'s state is saved as version
    0.1.0 saved it.
    """
    if type(state.optimizer) is not tuple:
        return state
    return state._replace(optimizer=tuple(part for part in state.optimizer if not _is_rate(part)))


def with_learning_rate(saved: TrainState, like: TrainState) -> TrainState:
    """The inverse of `without_learning_rate`, the rate being that of `like`."""
    if type(like.optimizer) is not tuple:
        return saved
    parts = iter(saved.optimizer)
    return saved._replace(optimizer=tuple(part if _is_rate(part) else next(parts) for part in like.optimizer))


def _injected(node: Any) -> bool:
    return isinstance(node, optax.InjectStatefulHyperparamsState)


def _is_rate(node: Any) -> bool:
    """Whether a part of a chain's state holds a learning rate that can be set, and nothing else."""
    if not _injected(node) or set(node.hyperparams) != {"learning_rate"}:
        return False
    return not jax.tree.leaves((node.hyperparams_states, node.inner_state))


def init_state(
    model: nnx.Module, optimizer: optax.GradientTransformation, key: jax.Array
) -> tuple[nnx.GraphDef, TrainState]:
    """Split a model into its static description and the initial training state, which shares no buffers."""
    graphdef, parameters, *rest = nnx.split(model, nnx.Param, ...)
    (statistics,) = rest
    step = jnp.zeros((), jnp.int32)
    state = TrainState(parameters, statistics, optimizer.init(parameters), step, jax.random.key_data(key))
    # Steps donate their state; the caller's model and key must outlive that.
    return graphdef, jax.tree.map(jnp.copy, state)


def init_state_on(
    mesh: Mesh,
    make_model: Callable[[], Ensemble],
    optimizer: optax.GradientTransformation,
    key: jax.Array,
) -> tuple[nnx.GraphDef, TrainState]:
    """`init_state` of a model that is made on the mesh: no device ever holds more than its part."""
    graphdef = nnx.graphdef(nnx.eval_shape(make_model))

    def create() -> TrainState:
        return init_state(make_model(), optimizer, key)[1]

    shardings = sharding.state_shardings(jax.eval_shape(create), mesh)
    return graphdef, jax.jit(create, out_shardings=shardings)()


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    loss_fn: Callable[..., Loss],
    *,
    l2: float,
    mesh: Mesh | None = None,
    compiler_options: Mapping[str, str] | None = None,
) -> TrainStep:
    """The jitted step: (state, ids [B, S], labels [B]) -> (state, metrics). Donates `state`.

    `optimizer` is any of optax's: its updates are added to the parameters. Those that look at the loss
    (`optax.polyak_sgd`, `optax.lbfgs`) get `value`, `grad` and `value_fn`. A fourth argument of the step sets
    the learning rate from then on, as `set_learning_rate` does: for `make_optimizer`'s or any other that was
    made with `optax.inject_hyperparams`; without it, or with None, the optimizer's own holds.

    `l2` weighs (l2 / 2) * sum(table^2) over the whole embedding table, as FuxiCTR does; of columns that
    students have to themselves it is the mean over students (`Embedding.squares`). A batch of another
    size (the last of an epoch) compiles once more. Where teachers give lessons, theirs on the batch is the
    fifth argument. On a `mesh` the state stays where it lies and the metrics are on every device.
    `compiler_options` are XLA's; see `ektf_jax.training.compiler`.
    """

    update = optax.with_extra_args_support(optimizer).update

    def objective(
        parameters: nnx.State, state: TrainState, ids: jax.Array, labels: jax.Array, *lesson: Lesson
    ) -> tuple[jax.Array, tuple[nnx.State, losses.Terms, jax.Array, jax.Array]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        model = nnx.merge(graphdef, parameters, state.statistics, copy=True)
        prediction = model(ids, train=True, key=key, labels=labels)
        loss, terms = loss_fn(prediction, labels, *lesson)
        own = jnp.mean(prediction.own_losses)
        penalty = l2 / 2 * model.embedding.squares()
        _, statistics = nnx.state(model, nnx.Param, ...)
        return loss + own + penalty, (statistics, terms, own, penalty)

    def step(
        state: TrainState,
        ids: jax.Array,
        labels: jax.Array,
        learning_rate: jax.Array | None = None,
        *lesson: Lesson,
    ) -> tuple[TrainState, StepMetrics]:
        (loss, (statistics, terms, own, penalty)), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.parameters, state, ids, labels, *lesson
        )
        optimizer_state = state.optimizer
        if learning_rate is not None:
            optimizer_state = set_learning_rate(optimizer_state, learning_rate)
        updates, optimizer_state = update(
            gradients,
            optimizer_state,
            state.parameters,
            value=loss,
            grad=gradients,
            value_fn=lambda parameters: objective(parameters, state, ids, labels, *lesson)[0],
        )
        parameters = optax.apply_updates(state.parameters, updates)
        metrics = StepMetrics(loss, terms, own, penalty, optax.tree.norm(gradients))
        state = TrainState(parameters, statistics, optimizer_state, state.step + 1, state.key)
        if mesh is not None:
            constrain = jax.lax.with_sharding_constraint
            state = constrain(state, sharding.state_shardings(state, mesh))
            metrics = constrain(metrics, sharding.replicated(mesh))
        return state, metrics

    return jax.jit(step, donate_argnums=0, compiler_options=dict(compiler_options or {}))


def make_predict(
    graphdef: nnx.GraphDef, *, mesh: Mesh | None = None, compiler_options: Mapping[str, str] | None = None
) -> Predict:
    """The jitted prediction in evaluation mode: (parameters, statistics, ids [B, S]) -> `Prediction`.

    On a `mesh` it takes the ids as every process has them, and leaves the prediction on every device.
    `compiler_options` are as in `make_train_step`.
    """
    options = dict(compiler_options or {})

    def predict(parameters: nnx.State, statistics: nnx.State, ids: jax.Array) -> Prediction:
        return nnx.merge(graphdef, parameters, statistics, copy=True)(ids)

    if mesh is None:
        return jax.jit(predict, compiler_options=options)
    on_mesh = jax.jit(predict, out_shardings=sharding.replicated(mesh), compiler_options=options)
    return lambda parameters, statistics, ids: on_mesh(parameters, statistics, sharding.put(mesh, ids))
