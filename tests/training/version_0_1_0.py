"""Optimizer and step as version 0.1.0 had them: the bits and the checkpoints that runs are held to."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from ektf_jax import sharding
from ektf_jax.training.step import StepMetrics, TrainState


def make_optimizer(clip_norm):
    """Without the learning rate, by which the step multiplied."""
    return optax.chain(optax.clip_by_global_norm(clip_norm), optax.scale_by_adam())


def make_train_step(graphdef, optimizer, loss_fn, *, l2, mesh=None, compiler_options=None):
    def objective(parameters, state, ids, labels):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        model = nnx.merge(graphdef, parameters, state.statistics, copy=True)
        prediction = model(ids, train=True, key=key)
        loss, terms = loss_fn(prediction, labels)
        own = jnp.mean(prediction.auxiliary_losses)
        penalty = l2 / 2 * jnp.sum(model.embedding.table[...] ** 2)
        _, statistics = nnx.state(model, nnx.Param, ...)
        return loss + own + penalty, (statistics, terms, own, penalty)

    def step(state, ids, labels, learning_rate):
        (loss, (statistics, terms, own, penalty)), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.parameters, state, ids, labels
        )
        updates, optimizer_state = optimizer.update(gradients, state.optimizer)
        parameters = jax.tree.map(lambda p, u: p - learning_rate * u, state.parameters, updates)
        metrics = StepMetrics(loss, terms, own, penalty, optax.tree.norm(gradients))
        state = TrainState(parameters, statistics, optimizer_state, state.step + 1, state.key)
        if mesh is not None:
            state = jax.lax.with_sharding_constraint(state, sharding.state_shardings(state, mesh))
            metrics = jax.lax.with_sharding_constraint(metrics, sharding.replicated(mesh))
        return state, metrics

    return jax.jit(step, donate_argnums=0, compiler_options=dict(compiler_options or {}))
