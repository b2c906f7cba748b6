"""EKTF, the paper's method."""

import dataclasses
from dataclasses import dataclass
from typing import get_args

import jax

from ektf_jax import losses
from ektf_jax.ensemble import Prediction
from ektf_jax.keys import key
from ektf_jax.transfer.method import Loss, Method

TEACHERS = get_args(losses.Teacher)


@dataclass(frozen=True)
class EKTF(Method):
    """Eq. 6: `losses.ektf_loss`."""

    needs_peers = True

    teacher: str = key("mean_logit", "The ensemble's prediction; mean_prob: as Eq. 2 is written.", TEACHERS)
    stop_gradient: bool = key(True, "Of what teaches.")
    kd: bool = key(True, "The ensemble teaches its students.")
    dml: bool = key(True, "Students teach each other.")
    examination: bool = key(True, "Weights by scores; otherwise they are uniform.")
    per_sample: bool = key(False, "Scores of each sample, as Eq. 4 is written; otherwise of the batch.")

    def __call__(self, prediction: Prediction, labels: jax.Array) -> Loss:
        return losses.ektf_loss(prediction.students, labels, **dataclasses.asdict(self))
