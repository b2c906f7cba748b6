"""Compares finished runs on the same rows: `ektf compare DIR DIR [--split=test] [--predictors=best]`.

DeLong's test for AUC, a paired bootstrap for logloss. One DIR compares two predictors of one run.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from ektf_jax.cli import shell
from ektf_jax.data.schema import SPLITS
from ektf_jax.errors import InputError

if TYPE_CHECKING:
    from ektf_jax.significance import Estimate

ARGUMENTS = 2

_SPLIT = flags.DEFINE_enum("split", "test", list(SPLITS), "Which split to compare on.")
_DATA = flags.DEFINE_string("data", None, "Where the runs' dataset is now, if it was moved.")
_PREDICTORS = flags.DEFINE_list(
    "predictors",
    ["ensemble"],
    "Of each run ensemble, best (the student with the best validation AUC) or 0 to K-1; one or two.",
)


def main(argv: list[str]) -> None:
    """Print a JSON line per predictor and one for their difference, with 95 % intervals and p."""
    from ektf_jax.runs import load_run  # seconds, which --help has not
    from ektf_jax.runs.compare import compare

    workdirs = [Path(argument) for argument in argv[1:]]
    if len(workdirs) not in (1, 2):
        raise InputError(f"{len(workdirs)} runs are given; name two working directories, or one")
    if len(_PREDICTORS.value) not in (1, 2):
        raise InputError(f"--predictors names {len(_PREDICTORS.value)}; name one for both runs, or two")
    if len(workdirs) == len(_PREDICTORS.value) == 1:
        raise InputError("one run is given with one of --predictors; name two of them, or two runs")
    data = None if _DATA.value is None else shell.path(_DATA)
    one, other = (load_run(path, data) for path in (workdirs[0], workdirs[-1]))
    names = (_PREDICTORS.value[0], _PREDICTORS.value[-1])
    found = compare(one, other, _SPLIT.value, names)
    for run, name, values in ((one, names[0], found.one), (other, names[1], found.other)):
        head = {"run": str(run.workdir), "predictor": name, "split": _SPLIT.value, "rows": found.rows}
        print(json.dumps(head | _flat(values), allow_nan=False))
    print(json.dumps({"difference": "first less second"} | _flat(found.difference), allow_nan=False))


def _flat(estimates: "dict[str, Estimate]") -> dict[str, float]:
    told: dict[str, float] = {}
    for metric, (value, low, high, p) in estimates.items():
        told |= {metric: value, f"{metric}_low": low, f"{metric}_high": high}
        told |= {} if p is None else {f"{metric}_p": p}
    return told
