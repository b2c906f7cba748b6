"""KD-DAGFM: a teacher distilled into a light student, which is fine-tuned then (Tian et al., 2023)."""

import jax
import jax.numpy as jnp

from ektf_jax import losses
from ektf_jax.ensemble import Prediction
from ektf_jax.transfer.lesson import Lesson
from ektf_jax.transfer.online_kd import student_losses

STAGES = ("distillation", "finetuning")


def dagfm(
    prediction: Prediction,
    labels: jax.Array,
    lesson: Lesson | None = None,
    *,
    stage: str = "distillation",
    ctr_weight: float = 0.1,
    kd_weight: float = 921.6,
) -> tuple[jax.Array, losses.Terms]:
    """The second and third of KD-DAGFM's three stages; the first trains the teacher alone.

    "distillation": L = ctr_weight * L_CTR(p) + kd_weight * mean_b (z_teacher - z)^2, of logits, with the
    teacher's embeddings, which stay as they are. "finetuning": L = L_CTR(p), everything is trained, from the
    distilled student on. With several students, the mean over them. The stages, the losses and the weights
    are the authors' (github.com/RUCAIBox/DAGFM). Their training is not: all stages here are trained as every
    other run (plateau, patience 2, L2 of the table, clipping), theirs with batches of 1024, a fixed learning
    rate, Adam's weight decay on all parameters, no clipping and a patience of 10, from embeddings that
    start Xavier uniform.
    """
    if stage not in STAGES:
        raise ValueError(f"stage {stage!r} is unknown: use one of {', '.join(STAGES)}")
    logits = prediction.students
    if stage == "finetuning":
        return student_losses(logits, labels, jnp.zeros(len(logits), logits.dtype))
    if lesson is None or len(lesson.logits) != 1:
        raise ValueError("distillation takes one teacher")
    gaps = jnp.mean((jax.lax.stop_gradient(lesson.logits) - logits) ** 2, axis=1)
    _, terms = student_losses(logits, labels, kd_weight * gaps)
    terms = terms._replace(ctr=ctr_weight * terms.ctr)
    return terms.ctr + terms.kd, terms
