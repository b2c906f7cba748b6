"""Evaluates a finished run: `ektf evaluate --workdir=DIR --split=test [--predictor=NAME]`."""

import json

from absl import flags

from ektf_jax.cli import shell
from ektf_jax.data.schema import SPLITS
from ektf_jax.result import Result

_WORKDIR = flags.DEFINE_string("workdir", None, "The working directory of a finished run.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", list(SPLITS), "Which split to evaluate.")
_DATA = flags.DEFINE_string("data", None, "Where the run's dataset is now, if it was moved.")
_PREDICTOR = flags.DEFINE_string(
    "predictor", None, "ensemble, best (the student with the best validation AUC) or 0 to K-1; all if absent."
)


def main(argv: list[str]) -> None:
    """Print one JSON line per predictor: {"predictor", "split", "auc", "logloss"}."""
    from ektf_jax.training import loop  # seconds, which --help has not

    del argv
    workdir = shell.path(_WORKDIR)
    result = Result.read(workdir)
    num_students = len(result.valid["students"])
    wanted = None
    if _PREDICTOR.value is not None:
        student = result.find("--predictor", _PREDICTOR.value)
        wanted = num_students if student is None else student
    metrics = loop.evaluate(workdir, _SPLIT.value, None if _DATA.value is None else shell.path(_DATA))
    for index, values in enumerate([*metrics["students"], metrics["ensemble"]]):
        if wanted in (None, index):
            name = "ensemble" if index == num_students else index
            print(json.dumps({"predictor": name, "split": _SPLIT.value} | values, allow_nan=False))
