"""How far a student's prediction is from a teacher's, from logits."""

import jax
import optax

from ektf_jax.losses import relative_weights, row_mean

DIVERGENCES = ("mse", "kl")


def divergence(
    teacher: jax.Array,
    students: jax.Array,
    *,
    kind: str,
    temperature: float,
    sample_weights: jax.Array | None = None,
) -> jax.Array:
    """Mean over the batch of every student's divergence from the teacher. [B] or [K, B], [K, B] -> [K].

    "mse": squared difference of the probabilities. "kl": T^2 KL(sigmoid(teacher / T) || sigmoid(student / T))
    of the two-class distributions (Hinton et al., 2015); T^2 keeps the gradient's size. Probabilities of
    "mse" are tempered too, without the factor. The teacher is a constant target.
    """
    if kind not in DIVERGENCES:
        raise ValueError(f"divergence {kind!r} is unknown: use one of {', '.join(DIVERGENCES)}")
    if not temperature > 0:
        raise ValueError(f"temperature = {temperature} must be above 0")
    teacher, students = jax.lax.stop_gradient(teacher) / temperature, students / temperature
    target, rows = jax.nn.sigmoid(teacher), relative_weights(sample_weights, students)
    if kind == "mse":
        return row_mean((jax.nn.sigmoid(students) - target) ** 2, rows)
    # Cross-entropy less the teacher's entropy, each from logits: finite where a probability rounds to 0 or 1.
    excess = optax.sigmoid_binary_cross_entropy(students, target) - optax.sigmoid_binary_cross_entropy(
        teacher, target
    )
    return temperature**2 * row_mean(excess, rows)
