"""ECKD: "Ensembled CTR Prediction via Knowledge Distillation" (Zhu et al., 2020), pre-trained teachers."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from ektf_jax import losses
from ektf_jax.blend import Predictor
from ektf_jax.embedding import Embedding
from ektf_jax.ensemble import Ensemble
from ektf_jax.errors import InputError
from ektf_jax.keys import ABOVE_0, key
from ektf_jax.layers.blocks import linear
from ektf_jax.layers.rngs import make_rngs
from ektf_jax.transfer.method import Loss, Method, Teacher, TeacherOutputs
from ektf_jax.transfer.online_kd import student_losses


class Guided(NamedTuple):
    """A `Prediction` with what its student makes of M teachers: the gate [M], and hints.

    A hint is the student's hidden state mapped to the size of a teacher's, [B, H]; None where there is none.
    """

    students: jax.Array
    ensemble: jax.Array
    auxiliary_losses: jax.Array | None
    gate_scale: jax.Array
    gate_bias: jax.Array
    hints: tuple[jax.Array | None, ...]


class Pupil(nnx.Module):
    """A student with what it learns beside itself in ECKD: ids [B, S] -> `Guided`.

    A gate over the teachers, which starts uniform, and for each teacher with a hidden state (size above 0
    in `hint_sizes`) a linear map of the student's to it. Hints are there in training only.
    """

    def __init__(self, ensemble: Ensemble, hint_sizes: Sequence[int], *, key: jax.Array):
        self.ensemble = ensemble
        self.hint_sizes = tuple(hint_sizes)
        self.gate_scale = nnx.Param(jnp.zeros(len(hint_sizes), jnp.float32))
        self.gate_bias = nnx.Param(jnp.zeros(len(hint_sizes), jnp.float32))
        rngs = make_rngs(key)
        width = ensemble.groups[0].hidden_size
        self.maps = nnx.List(linear(width, size, use_bias=False, rngs=rngs) for size in hint_sizes if size)

    @property
    def embedding(self) -> Embedding:
        return self.ensemble.embedding

    def __call__(
        self,
        ids: jax.Array,
        *,
        dense: jax.Array | None = None,
        train: bool = False,
        key: jax.Array | None = None,
        labels: jax.Array | None = None,
        sample_weights: jax.Array | None = None,
    ) -> Guided:
        hints: list[jax.Array | None] = [None] * len(self.hint_sizes)
        if train and self.maps:
            # On a copy: the student's BatchNorm statistics shall move once.
            hidden = nnx.clone(self.ensemble).hidden(ids, dense=dense, train=True, key=key)[0][0]
            hinted = [i for i, size in enumerate(self.hint_sizes) if size]
            for i, layer in zip(hinted, self.maps, strict=True):
                hints[i] = layer(hidden)
        prediction = self.ensemble(
            ids, dense=dense, train=train, key=key, labels=labels, sample_weights=sample_weights
        )
        return Guided(*prediction, self.gate_scale[...], self.gate_bias[...], tuple(hints))


def gate(prediction: Guided, outputs: TeacherOutputs) -> jax.Array:
    """Weights of the teachers per sample: softmax over them of scale_i * logit_i + bias_i. -> [M, B]."""
    scores = prediction.gate_scale[:, None] * outputs.logits + prediction.gate_bias[:, None]
    return jax.nn.softmax(scores, axis=0)


def distillation(prediction: Guided, outputs: TeacherOutputs, *, temperature: float) -> list[jax.Array]:
    """Gated cross-entropy of each student with the teachers' soft labels, of every sample. -> K of [B].

    sum_i gate_i CE(sigmoid(z_i / T), sigmoid(z / T)). It needs no label: its mean over students, on
    validation data, is ECKD's criterion of early stopping.
    """
    teachers = jax.lax.stop_gradient(outputs.logits) / temperature

    def of(student: jax.Array) -> jax.Array:
        soft = optax.sigmoid_binary_cross_entropy(
            jnp.broadcast_to(student / temperature, teachers.shape), nnx.sigmoid(teachers)
        )
        return jnp.sum(gate(prediction, outputs) * soft, axis=0)

    return [of(student) for student in prediction.students]


@dataclass(frozen=True)
class ECKD(Method):
    """L = L_CTR(p) + mean_b sum_i gate_i (soft_weight * CE_i + hint_weight * |v_i - W_i v|^2 / H_i).

    A student learns from labels, and from the soft labels (see `distillation`) and hidden states v_i of
    M teachers, weighed per sample by a gate that is learned with it. The paper's hint is the squared
    distance; divided by its H_i dimensions here, its weight does not depend on the teacher's width. A
    teacher without a hidden state gives no hint. Of several students the loss is the mean, over one gate and
    without hints.
    """

    least_teachers, most_teachers = 1, sys.maxsize
    monitors = "distillation_loss"

    soft_weight: float = key(1.0, "Of the teachers' soft labels.")
    hint_weight: float = key(
        1.0, "Of their hidden states, which a student and a teacher must have; 0: no hints."
    )
    temperature: float = key(1.0, "Of the soft labels.", ABOVE_0)

    def __call__(
        self,
        prediction: Guided,
        labels: jax.Array,
        outputs: TeacherOutputs,
        *,
        sample_weights: jax.Array | None = None,
    ) -> Loss:
        self.check(prediction.students.shape[0])
        rows = losses.relative_weights(sample_weights, prediction.students)
        outputs = jax.lax.stop_gradient(outputs)
        soft = distillation(prediction, outputs, temperature=self.temperature)
        if len(soft) > 1:
            gaps = jnp.stack([losses.row_mean(self.soft_weight * each, rows) for each in soft])
            return student_losses(prediction.students, labels, gaps, sample_weights)
        distilled = self.soft_weight * soft[0]
        weights = gate(prediction, outputs)
        for weight, hint, hidden in zip(weights, prediction.hints, outputs.hidden, strict=True):
            if hint is not None and hidden is not None:
                distilled += self.hint_weight * weight * jnp.mean((hidden - hint) ** 2, axis=1)
        gap = losses.row_mean(distilled, rows)
        return student_losses(prediction.students, labels, gap[None], sample_weights)

    def check(self, num_students: int) -> None:
        if num_students > 1 and self.hint_weight:
            raise ValueError(
                f"hint_weight = {self.hint_weight} is for one student, not {num_students}; set it to 0"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature = {self.temperature} must be above 0")

    def make_model(
        self, ensemble: Ensemble, teachers: Sequence[Callable[[], Predictor]], key: jax.Array
    ) -> Pupil:
        hints = self.hint_weight > 0 and _hidden_size(ensemble) > 0
        sizes = [_hidden_size(teacher()) if hints else 0 for teacher in teachers]
        return Pupil(ensemble, sizes, key=jax.random.fold_in(key, 1))

    def ensemble(self, model: Pupil) -> Ensemble:
        return model.ensemble

    def start(self, model: Pupil, students: Mapping[str, Any], teachers: Sequence[Teacher]) -> None:
        if self.hint_weight and not model.maps:
            raise InputError(
                f"config.transfer.eckd.hint_weight = {self.hint_weight!r}, but hints need a hidden state of"
                " the student and of a teacher; set it to 0"
            )
        if model.maps and model.ensemble.passes > 1:
            raise InputError(
                f"config.transfer.self = {model.ensemble.passes!r}, but config.transfer.eckd's hints are of"
                " one pass; set hint_weight to 0, or self to 1"
            )

    def hidden_wanted(self, model: Pupil) -> Sequence[bool]:
        return [size > 0 for size in model.hint_sizes]

    def monitored(self, prediction: Guided, outputs: TeacherOutputs) -> jax.Array:
        soft = distillation(prediction, outputs, temperature=self.temperature)
        return soft[0] if len(soft) == 1 else jnp.mean(jnp.stack(soft), axis=0)


def _hidden_size(model: Predictor) -> int:
    """Units of the last hidden layer of a model that is a single student with one, else 0."""
    return model.groups[0].hidden_size if model.num_students == 1 else 0
