"""EKTF, the paper's method."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import jax

from ektf_jax import losses
from ektf_jax.ensemble import Prediction
from ektf_jax.errors import InputError
from ektf_jax.keys import key
from ektf_jax.transfer.method import Loss, Method, Teacher, TeacherOutputs

TEACHERS = get_args(losses.Teacher)


@dataclass(frozen=True)
class EKTF(Method):
    """Eq. 6: `losses.ektf_loss`. A finished run may teach in the KD term, in the ensemble's place."""

    needs_peers = True
    most_teachers = 1

    teacher: str = key("mean_logit", "The ensemble's prediction; mean_prob: as Eq. 2 is written.", TEACHERS)
    stop_gradient: bool = key(True, "Of what teaches.")
    kd: bool = key(True, "The ensemble teaches its students.")
    dml: bool = key(True, "Students teach each other.")
    examination: bool = key(True, "Weights by scores; otherwise they are uniform.")
    per_sample: bool = key(False, "Scores of each sample, as Eq. 4 is written; otherwise of the batch.")

    def __call__(
        self,
        prediction: Prediction,
        labels: jax.Array,
        outputs: TeacherOutputs | None = None,
        *,
        sample_weights: jax.Array | None = None,
    ) -> Loss:
        taught = None if outputs is None else outputs.logits[0]
        return losses.ektf_loss(
            prediction.students,
            labels,
            teacher_logits=taught,
            sample_weights=sample_weights,
            **dataclasses.asdict(self),
        )

    def start(self, model: Any, students: Mapping[str, Any], teachers: Sequence[Teacher]) -> None:
        if not self.kd:
            raise InputError(
                f"{teachers[0].where}: teaches nothing, as config.transfer.ektf.kd = False; set it to True,"
                " or leave config.transfer.teachers empty"
            )

    def hidden_wanted(self, model: Any) -> Sequence[bool]:
        return [False]
