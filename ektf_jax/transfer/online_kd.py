"""Online knowledge distillation: the students' mean teaches each of them."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ektf_jax import losses
from ektf_jax.ensemble import Prediction
from ektf_jax.keys import ABOVE_0, key
from ektf_jax.transfer.divergence import DIVERGENCES, divergence
from ektf_jax.transfer.method import Loss, Method


@dataclass(frozen=True)
class OnlineKD(Method):
    """L = 1/K sum_k (L_CTR(p_k) + weight * divergence(teacher, p_k)), the teacher being the mean logit.

    Distillation as Hinton et al. (2015) have it, with the ensemble in training as the teacher (Table 5).
    """

    needs_peers = True

    weight: float = key(1.0, "Of the divergence.")
    temperature: float = key(2.0, "Of both predictions.", ABOVE_0)
    divergence: str = key("kl", "Of the tempered predictions: kl, times temperature^2, or mse.", DIVERGENCES)

    def __call__(
        self, prediction: Prediction, labels: jax.Array, *, sample_weights: jax.Array | None = None
    ) -> Loss:
        logits = prediction.students
        teacher = losses.fuse(logits, "mean")
        how = self.weight, self.divergence, self.temperature
        return taught(teacher, logits, labels, sample_weights, *how)


def taught(
    teacher: jax.Array,
    logits: jax.Array,
    labels: jax.Array,
    sample_weights: jax.Array | None,
    weight: float,
    kind: str,
    temperature: float,
) -> Loss:
    """Mean over students [K, B] of cross-entropy and weighted divergence to a teacher's logits [B]."""
    gaps = divergence(teacher, logits, kind=kind, temperature=temperature, sample_weights=sample_weights)
    return student_losses(logits, labels, weight * gaps, sample_weights)


def student_losses(
    logits: jax.Array, labels: jax.Array, gaps: jax.Array, sample_weights: jax.Array | None = None
) -> Loss:
    """Mean over students of cross-entropy and weighted gap [K] to the teacher, with `losses.Terms`."""
    num_students = logits.shape[0]
    ctr = jnp.mean(losses.ctr_loss(logits, labels, sample_weights=sample_weights))
    kd = jnp.mean(gaps)
    zero, no_peers = jnp.zeros((), logits.dtype), jnp.zeros((num_students,) * 2, logits.dtype)
    weights = jnp.full((num_students,), 1 / num_students, logits.dtype)
    scores = losses.exam_scores(logits, labels, sample_weights=sample_weights)
    return ctr + kd, losses.Terms(ctr, kd, zero, scores, weights, no_peers)
