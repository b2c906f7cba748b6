"""A run of finished runs: `ektf ensemble --workdirs=A,B,... --out=DIR` (docs/ensembles.md)."""

from pathlib import Path

from absl import flags

from ektf_jax.cli import shell
from ektf_jax.config import BLENDS
from ektf_jax.runs import ensembles

_WORKDIRS = flags.DEFINE_list("workdirs", [], "The working directories of finished runs over one dataset.")
_OUT = flags.DEFINE_string("out", None, "The working directory of the run to make.", required=True)
_SELECT = flags.DEFINE_enum(
    "select", "greedy", ensembles.SELECTIONS, "greedy: forward with replacement; all; prune: backward."
)
_OF = flags.DEFINE_enum("of", "logits", BLENDS, "What the ensemble is the mean of.")
_METRIC = flags.DEFINE_enum(
    "metric",
    "auc",
    ensembles.SELECTED_BY,
    "What of the ensemble on validation data students are selected by.",
)
_DATA = flags.DEFINE_string("data", None, "Where the runs' dataset is now, if it was moved.")


def main(argv: list[str]) -> None:
    """Make the run, then print the weights and the test metrics."""
    del argv
    result = ensembles.make(
        [Path(name) for name in _WORKDIRS.value],
        shell.path(_OUT),
        how=_SELECT.value,
        of=_OF.value,
        metric=_METRIC.value,
        data=None if _DATA.value is None else shell.path(_DATA),
    )
    for one in result["selection"]["candidates"]:
        if one["weight"]:
            print(f"{one['run']} student {one['student']}  weight {one['weight']:.4f}")
    for split in ("valid", "test"):
        found = result[split]["ensemble"]
        print(f"{split} ensemble  AUC {found['auc']:.6f}  logloss {found['logloss']:.6f}")
