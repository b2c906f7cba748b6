"""No transfer, the plain ensemble of Section 3.1."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ektf_jax import losses
from ektf_jax.ensemble import Prediction
from ektf_jax.transfer.method import Loss, Method


@dataclass(frozen=True)
class Plain(Method):
    """Cross-entropy of the fused prediction alone."""

    of_the_fused = True

    def __call__(
        self, prediction: Prediction, labels: jax.Array, *, sample_weights: jax.Array | None = None
    ) -> Loss:
        ctr = losses.ctr_loss(prediction.ensemble, labels, sample_weights=sample_weights)
        num_students = prediction.students.shape[0]
        zero, weights = jnp.zeros(()), jnp.zeros(num_students)
        scores = losses.exam_scores(prediction.students, labels, sample_weights=sample_weights)
        return ctr, losses.Terms(ctr, zero, zero, scores, weights, jnp.zeros((num_students,) * 2))
