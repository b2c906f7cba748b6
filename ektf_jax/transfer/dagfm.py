"""KD-DAGFM: a teacher distilled into a light student, which is fine-tuned then (Tian et al., 2023)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax import losses
from ektf_jax.blend import Predictor
from ektf_jax.embedding import Embedding
from ektf_jax.ensemble import Ensemble, Prediction
from ektf_jax.errors import InputError
from ektf_jax.keys import differences, key, leaves
from ektf_jax.transfer.method import Loss, Method, Teacher, TeacherOutputs
from ektf_jax.transfer.online_kd import student_losses

STAGES = ("distillation", "finetuning")


class Fixed(nnx.Variable):
    """A value that is saved with the model and not trained."""


@dataclass(frozen=True)
class DAGFM(Method):
    """The second and third of KD-DAGFM's three stages; the first trains the teacher alone.

    "distillation": L = ctr_weight * L_CTR(p) + kd_weight * mean_b (z_teacher - z)^2, of logits, with the
    teacher's embeddings, which stay as they are. "finetuning": L = L_CTR(p), everything is trained, from the
    distilled student on. With several students, the mean over them. The stages, the losses and the weights
    are the authors' (github.com/RUCAIBox/DAGFM). Their training is not: all stages here are trained as every
    other run (plateau, patience 2, L2 of the table, clipping), theirs with batches of 1024, a fixed learning
    rate, Adam's weight decay on all parameters, no clipping and a patience of 10, from embeddings that
    start Xavier uniform.
    """

    least_teachers = most_teachers = 1
    starts_from_teacher = True

    stage: str = key(
        "distillation", "Of the teacher; finetuning: of the distilled run, the teacher then.", STAGES
    )
    ctr_weight: float = key(0.1, "Of the labels in distillation.")
    kd_weight: float = key(921.6, "Of the teacher in distillation.")

    def __call__(
        self,
        prediction: Prediction,
        labels: jax.Array,
        outputs: TeacherOutputs | None = None,
        *,
        sample_weights: jax.Array | None = None,
    ) -> Loss:
        if self.stage not in STAGES:
            raise ValueError(f"stage {self.stage!r} is unknown: use one of {', '.join(STAGES)}")
        logits = prediction.students
        if self.stage == "finetuning":
            return student_losses(logits, labels, jnp.zeros(len(logits), logits.dtype), sample_weights)
        if outputs is None or len(outputs.logits) != 1:
            raise ValueError("distillation takes one teacher")
        rows = losses.relative_weights(sample_weights, logits)
        gaps = losses.row_mean((jax.lax.stop_gradient(outputs.logits) - logits) ** 2, rows)
        _, terms = student_losses(logits, labels, self.kd_weight * gaps, sample_weights)
        terms = terms._replace(ctr=self.ctr_weight * terms.ctr)
        return terms.ctr + terms.kd, terms

    def check(self, num_students: int) -> None:
        """Any number of students will do."""

    def make_model(
        self, ensemble: Ensemble, teachers: Sequence[Callable[[], Predictor]], key: jax.Array
    ) -> Ensemble:
        if self.stage == "distillation":
            _hold(ensemble.embedding)
        return ensemble

    def start(self, model: Ensemble, students: Mapping[str, Any], teachers: Sequence[Teacher]) -> None:
        (teacher,) = teachers
        if not isinstance(theirs := teacher.model, Ensemble):
            raise InputError(
                f"{teacher.where}: an ensemble of runs has no table of its own, which config.transfer.name ="
                " 'dagfm' starts from; name one of its runs"
            )
        if self.stage == "distillation":
            _take_embeddings(model, theirs, teacher.where)
            return
        _start_from(model, theirs, teacher.where)
        (ours,), taught = students.values(), next(iter(teacher.students.values()))
        # Weights of one shape can mean another thing: DAGFM's interactions, say.
        if changed := differences(dict(leaves(taught)), dict(leaves(ours))):
            raise InputError(
                f"{teacher.where}: its student is not that of config.ensemble.students ({'; '.join(changed)})"
                ", so its weights are no start for it; give it the same arguments"
            )

    def hidden_wanted(self, model: Ensemble) -> Sequence[bool] | None:
        return [False] if self.stage == "distillation" else None


def _hold(embedding: Embedding) -> None:
    """Let the table, and the weights of attention over it, be fixed."""
    modules = [module for _, module in nnx.iter_graph(embedding) if isinstance(module, nnx.Module)]
    for module in modules:
        for name, value in list(vars(module).items()):
            if isinstance(value, nnx.Param):  # what is frozen stays so
                setattr(module, name, Fixed(value[...]))


def _start_from(model: Ensemble, trained: Ensemble, where: str) -> None:
    """Give an untrained model the weights of a trained one of the same shape."""
    theirs = nnx.state(trained)
    ours, given = (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), nnx.to_pure_dict(state))
        for state in (nnx.state(model), theirs)
    )
    if ours != given:
        raise InputError(
            f"{where}: not a model of this run's shape, as config.transfer.dagfm.stage = 'finetuning'"
            " goes on from; give it the same config.ensemble and config.embedding.dim"
        )
    nnx.update(model, theirs)


def _take_embeddings(model: Ensemble, teacher: Ensemble, where: str) -> None:
    """Give the student the teacher's shared embeddings, and its attention over them."""
    columns, dim = model.embedding.table.shape[1], model.shared_dim
    if columns != dim or dim != teacher.shared_dim:
        raise InputError(
            f"config.embedding: {dim} shared columns of the table and {columns - dim} of the students' own"
            f" must be {teacher.shared_dim} and none: a DAGFM is distilled over the shared embeddings"
            f" of its teacher, {where}"
        )
    model.embedding.table[...] = teacher.embedding.table[:, :dim]
    for ours, theirs in zip(model.embedding.attention, teacher.embedding.attention, strict=True):
        for units, given in zip(ours.units, theirs.units, strict=False):  # the shared columns come first
            nnx.update(units, nnx.to_pure_dict(nnx.state(given)))
    for mine, taught in zip(model.embedding.pretrained, teacher.embedding.pretrained, strict=True):
        mine.vectors[...] = taught.vectors[...]
        mine.projection.kernel[...] = taught.projection.kernel[:, :dim]
