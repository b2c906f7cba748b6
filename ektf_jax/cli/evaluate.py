"""Evaluates a finished run: `ektf evaluate --workdir=DIR --split=test [--predictor=NAME]`.

--by=FIELD evaluates the rows of each value of a field, with intervals. --out=FILE writes what each row was
predicted, --plot=DIR the ROC curve, the reliability diagram and the histogram of predictions.
"""

import json

from absl import flags

from ektf_jax import metrics
from ektf_jax.cli import shell
from ektf_jax.data.schema import SPLITS
from ektf_jax.errors import InputError, unknown

_WORKDIR = flags.DEFINE_string("workdir", None, "The working directory of a finished run.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", list(SPLITS), "Which split to evaluate.")
_DATA = flags.DEFINE_string("data", None, "Where the run's dataset is now, if it was moved.")
_PREDICTOR = flags.DEFINE_string(
    "predictor", None, "ensemble, best (the student with the best validation AUC) or 0 to K-1; all if absent."
)
_METRICS = flags.DEFINE_list(
    "metrics",
    metrics.of_runs(),
    f"Of {', '.join(metrics.METRICS)}; the groups of gauc are the values of --by.",
)
_BY = flags.DEFINE_string("by", None, "A field: a line for each of its values too.")
_MOST = flags.DEFINE_integer("most", 20, "Values of --by; the rarer ones are joined.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "A .csv or .parquet file for the label and predictions of each row.")
_PLOT = flags.DEFINE_string("plot", None, "A directory for evaluation.png and evaluation.svg.")


def main(argv: list[str]) -> None:
    """Print one JSON line per predictor: {"predictor", "split", "auc", "logloss"}."""
    from ektf_jax.runs import judge, load_run  # seconds, which --help has not

    del argv
    _check_metrics()
    out = None if _OUT.value is None else shell.path(_OUT)
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out={out}: must end in .csv or .parquet")
    run = load_run(shell.path(_WORKDIR), None if _DATA.value is None else shell.path(_DATA))
    predictions = judge.predictions(run, _SPLIT.value, _PREDICTOR.value)
    for line in judge.judge(run, predictions, _METRICS.value, by=_BY.value, most=_MOST.value):
        predictor = {"predictor": line.pop("predictor"), "split": _SPLIT.value}
        print(json.dumps(predictor | line, allow_nan=False))
    if out is not None:
        judge.write(predictions, out)
    if _PLOT.value is not None:
        from ektf_jax.report import figures, judged

        directory = shell.path(_PLOT)
        directory.mkdir(parents=True, exist_ok=True)
        figures.save(judged.figure(*judge.shown(run, predictions)), directory / "evaluation")


def _check_metrics() -> None:
    for name in _METRICS.value:
        if name not in metrics.METRICS:
            raise unknown("--metrics", name, metrics.METRICS)
        if metrics.METRICS[name].needs and _BY.value is None:
            raise InputError(f"--metrics={name} is over groups; name their field by --by")
