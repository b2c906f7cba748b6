"""The training step: one pure function of (state, batch), with any optax optimizer, and donated state."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jax.typing import ArrayLike

from ektf_jax import losses, sharding
from ektf_jax.data.loader import Batch
from ektf_jax.ensemble import Ensemble, Prediction
from ektf_jax.training import compiler
from ektf_jax.training.optimizer import Optimizer
from ektf_jax.transfer import TeacherOutputs
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
Predict = Callable[[nnx.State, nnx.State, Batch], Prediction]


def transformation(
    optimizer: Optimizer | optax.GradientTransformation, learning_rate: ArrayLike | None
) -> optax.GradientTransformation:
    """The transformation of an optimizer at a learning rate; ValueError for one whose rate is fixed."""
    if callable(optimizer):
        return optimizer(1.0 if learning_rate is None else learning_rate)
    if learning_rate is not None:
        raise ValueError("the optimizer has a learning rate of its own; give a function of the learning rate")
    return optimizer


def saved_form(state: TrainState) -> TrainState:
    """What a checkpoint holds: the optimizer's parts in a row, without those at the end that hold nothing.

    So Adam's state is saved as all versions saved it.
    """
    parts = list(_parts(state.optimizer))
    while parts and not jax.tree.leaves(parts[-1]):
        parts.pop()
    return state._replace(optimizer=tuple(parts))


def from_saved_form(saved: TrainState, like: TrainState) -> TrainState:
    """The inverse of `saved_form`."""
    parts = iter(saved.optimizer)

    def rebuilt(node: Any) -> Any:
        return tuple(map(rebuilt, node)) if type(node) is tuple else next(parts, node)

    return saved._replace(optimizer=rebuilt(like.optimizer))


def _parts(node: Any) -> Iterator[Any]:
    """The states of a chain of transformations, chains in it resolved."""
    if type(node) is tuple:
        for part in node:
            yield from _parts(part)
    else:
        yield node


def init_state(
    model: nnx.Module, optimizer: Optimizer | optax.GradientTransformation, key: jax.Array
) -> tuple[nnx.GraphDef, TrainState]:
    """Split a model into its static description and the initial training state, which shares no buffers."""
    graphdef, parameters, *rest = nnx.split(model, nnx.Param, ...)
    (statistics,) = rest
    step = jnp.zeros((), jnp.int32)
    first = transformation(optimizer, None).init(parameters)
    state = TrainState(parameters, statistics, first, step, jax.random.key_data(key))
    # Steps donate their state; the caller's model and key must outlive that.
    return graphdef, jax.tree.map(jnp.copy, state)


def init_state_on(
    mesh: Mesh,
    make_model: Callable[[], Ensemble],
    optimizer: Optimizer | optax.GradientTransformation,
    key: jax.Array,
) -> tuple[nnx.GraphDef, TrainState]:
    """`init_state` of a model that is made on the mesh: no device ever holds more than its part."""

    def create() -> tuple[nnx.GraphDef, TrainState]:
        return init_state(make_model(), optimizer, key)

    graphdef, shapes = jax.eval_shape(create)
    shardings = graphdef, sharding.state_shardings(shapes, mesh)
    return jax.jit(create, out_shardings=shardings)()


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: Optimizer | optax.GradientTransformation,
    loss_fn: Callable[..., Loss],
    *,
    l2: ArrayLike,
    mesh: Mesh | None = None,
    compiler_options: compiler.Options | None = None,
) -> TrainStep:
    """The jitted step: (state, batch) -> (state, metrics). Donates `state`.

    `optimizer` is any of optax's, or a function of the learning rate that makes one, as
    `training.optimizer.make_optimizer`'s, which gets the step's third argument then. Its updates are added to
    the parameters. Those that look at the loss (`optax.polyak_sgd`, `optax.lbfgs`) get `value`, `grad` and
    `value_fn`.

    `l2` weighs (l2 / 2) * sum(table^2) over the whole embedding table, as FuxiCTR does; of columns that
    students have to themselves it is the mean over students (`Embedding.squares`). A batch of another
    size (the last of an epoch) compiles once more. Where a batch has weights `loss_fn` and the model get them
    as `sample_weights`. Where teachers teach, their outputs on the batch are the
    fourth argument. On a `mesh` the state stays where it lies and the metrics are on every device.
    `compiler_options` are XLA's; see `ektf_jax.training.compiler`.
    """

    def objective(
        parameters: nnx.State, state: TrainState, batch: Batch, *outputs: TeacherOutputs
    ) -> tuple[jax.Array, tuple[nnx.State, losses.Terms, jax.Array, jax.Array]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        model = nnx.merge(graphdef, parameters, state.statistics, copy=True)
        more = {} if batch.weights is None else {"sample_weights": batch.weights}
        prediction = model(batch.ids, train=True, key=key, labels=batch.labels, **batch.beside_ids, **more)
        loss, terms = loss_fn(prediction, batch.labels, *outputs, **more)
        own = jnp.mean(prediction.auxiliary_losses)
        penalty = l2 / 2 * model.embedding.squares()
        _, statistics = nnx.state(model, nnx.Param, ...)
        return loss + own + penalty, (statistics, terms, own, penalty)

    def step(
        state: TrainState,
        batch: Batch,
        learning_rate: jax.Array | None = None,
        *outputs: TeacherOutputs,
    ) -> tuple[TrainState, StepMetrics]:
        (loss, (statistics, terms, own, penalty)), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.parameters, state, batch, *outputs
        )
        update = optax.with_extra_args_support(transformation(optimizer, learning_rate)).update
        updates, optimizer_state = update(
            gradients,
            state.optimizer,
            state.parameters,
            value=loss,
            grad=gradients,
            value_fn=lambda parameters: objective(parameters, state, batch, *outputs)[0],
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
    graphdef: nnx.GraphDef, *, mesh: Mesh | None = None, compiler_options: compiler.Options | None = None
) -> Predict:
    """The jitted prediction in evaluation mode: (parameters, statistics, batch) -> `Prediction`.

    On a `mesh` it takes the batch as every process has them, and leaves the prediction on every device.
    `compiler_options` are as in `make_train_step`.
    """
    options = dict(compiler_options or {})

    def predict(parameters: nnx.State, statistics: nnx.State, batch: Batch) -> Prediction:
        return nnx.merge(graphdef, parameters, statistics, copy=True)(batch.ids, **batch.beside_ids)

    if mesh is None:
        return jax.jit(predict, compiler_options=options)
    on_mesh = jax.jit(predict, out_shardings=sharding.replicated(mesh), compiler_options=options)
    return lambda parameters, statistics, batch: on_mesh(
        parameters, statistics, jax.tree.map(partial(sharding.put, mesh), batch)
    )
