"""Reduce on plateau and early stopping, as one pure update per evaluation."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Plateau(NamedTuple):
    """Where a run stands: the best metric so far, evaluations since without progress, learning rate."""

    learning_rate: float
    best: float = -math.inf
    best_epoch: int = 0
    bad_epochs: int = 0
    stopped: bool = False

    @property
    def improved(self) -> bool:
        """Whether the latest evaluation was the best."""
        return self.bad_epochs == 0


def to_json(plateau: Plateau) -> dict[str, Any]:
    """The plateau as a checkpoint has it: before the first evaluation its best metric is None."""
    best = plateau.best if math.isfinite(plateau.best) else None
    return plateau._asdict() | {"best": best}


def from_json(saved: Mapping[str, Any]) -> Plateau:
    """The plateau of a checkpoint. Version 0.1.0 wrote -Infinity for None."""
    best = -math.inf if saved["best"] is None else saved["best"]
    return Plateau(**{**saved, "best": best})


def update(
    plateau: Plateau,
    metric: float,
    epoch: int,
    *,
    patience: int,
    decay: float,
    min_learning_rate: float,
    min_delta: float,
) -> Plateau:
    """The plateau after evaluating `epoch`, for a metric that should rise.

    Without an improvement of at least `min_delta` the learning rate is multiplied by `decay`, down to
    `min_learning_rate`, at once; `patience` such evaluations in a row stop the run. This is what the
    authors' training does (FuxiCTR's checkpoint_and_earlystop), but that a rate below the minimum stays as it
    is, where theirs rises to it.
    """
    if metric >= plateau.best + min_delta:
        return plateau._replace(best=metric, best_epoch=epoch, bad_epochs=0)
    bad_epochs = plateau.bad_epochs + 1
    return plateau._replace(
        learning_rate=min(plateau.learning_rate, max(plateau.learning_rate * decay, min_learning_rate)),
        bad_epochs=bad_epochs,
        stopped=bad_epochs >= patience,
    )
