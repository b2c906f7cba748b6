"""DML-CTR, the paper's Section 3.4."""

import dataclasses
from dataclasses import dataclass

import jax

from ektf_jax import losses
from ektf_jax.ensemble import Prediction
from ektf_jax.keys import key
from ektf_jax.transfer.method import Loss, Method


@dataclass(frozen=True)
class DML(Method):
    """Eq. 3: `losses.dml_ctr_loss`."""

    needs_peers = True

    stop_gradient: bool = key(True, "Of the peers.")
    reduction: str = key(
        "sum",
        "Over students: sum, as Eq. 3, or mean, which makes embedding.l2 what it is elsewhere.",
        ("sum", "mean"),
    )

    def __call__(
        self, prediction: Prediction, labels: jax.Array, *, sample_weights: jax.Array | None = None
    ) -> Loss:
        return losses.dml_ctr_loss(
            prediction.students, labels, sample_weights=sample_weights, **dataclasses.asdict(self)
        )
