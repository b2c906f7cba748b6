"""Where a run stands beside its weights: what a checkpoint has as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ektf_jax.training import schedule
from ektf_jax.training.schedule import Plateau

_NUMBER = int | float
# What every checkpoint of a run has, see `files.check_shape`.
SHAPE: dict[str, Any] = {
    "plateau": {"learning_rate": _NUMBER, "best_epoch": int, "bad_epochs": int},
    "seconds": _NUMBER,
    "waited_seconds": _NUMBER,
    "wall_seconds": _NUMBER,
}


@dataclass
class Progress:
    """Counts of a run, over all processes that it took.

    `seconds` are those of `rows` rows of training steps, of which `waited` for rows; what compiled is in
    neither, but in `compiling`. `wall` are seconds from start to end.
    """

    plateau: Plateau
    step: int = 0
    seconds: float = 0.0
    rows: int = 0
    waited: float = 0.0
    compiling: float = 0.0
    wall: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint has; `batches` is for earlier versions, which do not look at the step."""
        return {
            "plateau": schedule.to_json(self.plateau),
            "batches": {"next_index": self.step},
            "seconds": self.seconds,
            "rows": self.rows,
            "compiling_seconds": self.compiling,
            "waited_seconds": self.waited,
            "wall_seconds": self.wall,
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], step: int, rows: int) -> "Progress":
        """Read what a checkpoint has of `step`; `rows` are for one that does not say how many."""
        return cls(
            schedule.from_json(saved["plateau"]),
            step,
            saved["seconds"],
            saved.get("rows", rows),
            saved["waited_seconds"],
            saved.get("compiling_seconds", 0.0),
            saved["wall_seconds"],
        )
