"""KDCL: online knowledge distillation via collaborative learning (Guo et al., 2020)."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ektf_jax import losses
from ektf_jax.ensemble import Prediction
from ektf_jax.keys import ABOVE_0, key
from ektf_jax.transfer.divergence import DIVERGENCES
from ektf_jax.transfer.method import Loss, Method
from ektf_jax.transfer.online_kd import taught

_STEPS = 300  # of the search for the best mixture; logits of a scale of 2 end within 1e-3 (tests)


def naive(logits: jax.Array, labels: jax.Array, sample_weights: jax.Array | None = None) -> jax.Array:
    """The logits of the student with the lowest cross-entropy on the batch. [K, B], [B] -> [B]."""
    return logits[jnp.argmin(losses.ctr_loss(logits, labels, sample_weights=sample_weights))]


def minlogit(logits: jax.Array, labels: jax.Array, sample_weights: jax.Array | None = None) -> jax.Array:
    """Per sample, the logit that is most on the label's side. [K, B], [B] -> [B].

    The paper takes, relative to the target's logit, the smallest logit of every other class over all
    students; with two classes that is the largest margin.
    """
    sign = 2 * labels.astype(logits.dtype) - 1
    return sign * jnp.max(sign * logits, axis=0)


def linear(logits: jax.Array, labels: jax.Array, sample_weights: jax.Array | None = None) -> jax.Array:
    """The convex mixture of logits with the lowest cross-entropy on the batch. [K, B], [B] -> [B].

    One mixture for the whole batch, which is a choice: for a sample by itself the best mixture of logits of
    two classes is a single student's, the teacher of `minlogit`. The problem is convex; it is solved by
    exponentiated gradient descent, whose steps stay on the simplex.
    """
    labels = labels.astype(logits.dtype)
    rows = losses.relative_weights(sample_weights, logits)
    # The curvature in any direction is at most the mean of |z_b|^2 / 4: a step of its inverse descends.
    rate = 4 / jnp.maximum(losses.row_mean(jnp.max(jnp.abs(logits), axis=0) ** 2, rows), 1e-6)

    def step(_: int, log_weights: jax.Array) -> jax.Array:
        errors = jax.nn.sigmoid(jax.nn.softmax(log_weights) @ logits) - labels
        errors = errors if rows is None else errors * rows
        return log_weights - rate * (logits @ errors) / logits.shape[1]

    log_weights = jax.lax.fori_loop(0, _STEPS, step, jnp.zeros(logits.shape[0], logits.dtype))
    return jax.nn.softmax(log_weights) @ logits


def general(logits: jax.Array, labels: jax.Array, sample_weights: jax.Array | None = None) -> jax.Array:
    """The mixture of logits with the least estimated generalisation error. [K, B], [B] -> [B].

    Weights are C^-1 1 / (1' C^-1 1) with C_kl = mean((p_k - y)(p_l - y)): the errors' second moments. The
    paper measures C on validation data after each epoch; here it is the batch's, so that the loss stays a
    function of the batch. A ridge of 1e-3 of the mean square keeps nearly equal students invertible.
    """
    errors = jax.nn.sigmoid(logits) - labels.astype(logits.dtype)
    rows = losses.relative_weights(sample_weights, logits)
    moments = (errors if rows is None else errors * rows) @ errors.T / logits.shape[1]
    ridge = 1e-3 * jnp.trace(moments) / logits.shape[0]
    ones = jnp.ones(logits.shape[0], logits.dtype)
    weights = jnp.linalg.solve(moments + ridge * jnp.eye(logits.shape[0], dtype=logits.dtype), ones)
    return (weights / jnp.sum(weights)) @ logits


TEACHERS: dict[str, Callable[..., jax.Array]] = {
    "naive": naive,
    "minlogit": minlogit,
    "linear": linear,
    "general": general,
}


@dataclass(frozen=True)
class KDCL(Method):
    """L = 1/K sum_k (L_CTR(p_k) + weight * divergence(teacher, p_k)) with one of four teachers (Table 5)."""

    needs_peers = True

    variant: str = key("naive", "How the students' logits become the teacher's.", TEACHERS)
    weight: float = key(1.0, "Of the divergence.")
    temperature: float = key(2.0, "Of both predictions.", ABOVE_0)
    divergence: str = key("kl", "Of the tempered predictions: kl, times temperature^2, or mse.", DIVERGENCES)

    def __call__(
        self, prediction: Prediction, labels: jax.Array, *, sample_weights: jax.Array | None = None
    ) -> Loss:
        if self.variant not in TEACHERS:
            raise ValueError(f"variant {self.variant!r} is unknown: use one of {', '.join(TEACHERS)}")
        logits = prediction.students
        teacher = TEACHERS[self.variant](jax.lax.stop_gradient(logits), labels, sample_weights)
        how = self.weight, self.divergence, self.temperature
        return taught(teacher, logits, labels, sample_weights, *how)
