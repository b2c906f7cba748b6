"""KD-CTR, the paper's Section 3.3."""

import dataclasses
from dataclasses import dataclass

import jax

from ektf_jax import losses
from ektf_jax.ensemble import Prediction
from ektf_jax.keys import key
from ektf_jax.transfer.ektf import TEACHERS
from ektf_jax.transfer.method import Loss, Method


@dataclass(frozen=True)
class KD(Method):
    """Eq. 2: `losses.kd_ctr_loss`.

    The paper calls lambda a hyper-parameter and names no value; the loss by itself has 1 / K, so that they
    sum to 1.
    """

    needs_peers = True

    weights: float = key(1.0, "lambda, the same for each student.")
    teacher: str = key("mean_logit", "The ensemble's prediction; mean_prob: as Eq. 2 is written.", TEACHERS)
    stop_gradient: bool = key(True, "Of the teacher.")

    def __call__(
        self, prediction: Prediction, labels: jax.Array, *, sample_weights: jax.Array | None = None
    ) -> Loss:
        return losses.kd_ctr_loss(
            prediction.students, labels, sample_weights=sample_weights, **dataclasses.asdict(self)
        )
