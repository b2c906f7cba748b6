"""Students of several ensembles as one: what an ensemble of finished runs predicts with."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.config import BLENDS
from ektf_jax.ensemble import Ensemble, Prediction, StudentGroup


class Blend(nnx.Module):
    """A weighted mean of students of several ensembles: ids [B, S] -> `Prediction`. It predicts only.

    Args:
      members: the ensembles, each with a table of its own; what each makes of its students does not count.
      weights: of the K students of all members in their order, not negative, of sum 1.
      of: "logits", or "probabilities": the ensemble's logit is that of their weighted mean then.
    """

    def __init__(
        self,
        members: "Sequence[Ensemble | Blend]",
        weights: Sequence[float],
        *,
        of: Literal["logits", "probabilities"] = "logits",
    ):
        if of not in BLENDS:
            raise ValueError(f"a blend of {of!r} is unknown: use one of {', '.join(BLENDS)}")
        self.members = nnx.List(members)
        self.weights = tuple(map(float, weights))
        self.of = of
        if len(self.weights) != self.num_students:
            raise ValueError(f"{len(self.weights)} weights of {self.num_students} students")

    @property
    def groups(self) -> list[StudentGroup]:
        """The groups of all members, in the order of the predictions."""
        return [group for member in self.members for group in member.groups]

    @property
    def num_students(self) -> int:
        """K."""
        return sum(member.num_students for member in self.members)

    def __call__(self, ids: jax.Array, *, dense: jax.Array | None = None) -> Prediction:
        logits = jnp.concatenate([member(ids, dense=dense).students for member in self.members])
        weights = jnp.array(self.weights, logits.dtype)[:, None]
        if self.of == "logits":
            return Prediction(logits, jnp.sum(weights * logits, axis=0))
        # log p and log(1 - p), each by itself, so that neither p next to 1 nor next to 0 is rounded away.
        yes, no = (jax.nn.logsumexp(jax.nn.log_sigmoid(z), axis=0, b=weights) for z in (logits, -logits))
        return Prediction(logits, yes - no)

    def hidden(self, ids: jax.Array, *, dense: jax.Array | None = None) -> tuple[jax.Array, ...]:
        """The students' last hidden states, [size, B, H] of each group."""
        return tuple(hidden for member in self.members for hidden in member.hidden(ids, dense=dense))

    def student(self, k: int) -> Ensemble:
        """Cut student `k` out, as `Ensemble.student` does."""
        index = k
        for member in self.members:
            if 0 <= index < member.num_students:
                return member.student(index)
            index -= member.num_students
        raise IndexError(f"there is no student {k}: the ensemble has {len(self.weights)}")

    def subset(self, ks: Sequence[int]) -> "Blend":
        """Cut students out, as `Ensemble.subset` does: the blend of them, their weights scaled to sum 1."""
        if wrong := [k for k in ks if not 0 <= k < len(self.weights)]:
            raise IndexError(f"there is no student {wrong[0]}: the ensemble has {len(self.weights)}")
        members, first = [], 0
        for member in self.members:
            if kept := [k - first for k in ks if first <= k < first + member.num_students]:
                members.append(member.subset(kept))
            first += member.num_students
        total = sum(self.weights[k] for k in ks)
        return Blend(members, [self.weights[k] / total for k in ks], of=self.of)


# What a finished run predicts with.
Predictor = Ensemble | Blend
