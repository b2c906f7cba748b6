"""Evaluates a finished run: `ektf evaluate --workdir=DIR --split=test [--predictor=NAME]`.

--by=FIELD evaluates the rows of each value of a field, with intervals. --out=FILE writes what each row was
predicted, --plot=DIR the ROC curve, the reliability diagram and the histogram of predictions.
"""

import json
from pathlib import Path

import numpy as np
import polars as pl
from absl import flags
from numpy.typing import NDArray

from ektf_jax import directories, metrics
from ektf_jax.cli import shell
from ektf_jax.data.encoded import Split
from ektf_jax.data.schema import SPLITS
from ektf_jax.errors import InputError, unknown
from ektf_jax.runs import load_run
from ektf_jax.runs.compare import logits_of, split_of
from ektf_jax.runs.judge import find_field, judge, rows_by_value
from ektf_jax.runs.run import Run

_WORKDIR = flags.DEFINE_string("workdir", None, "The working directory of a finished run.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", list(SPLITS), "Which split to evaluate.")
_DATA = flags.DEFINE_string("data", None, "Where the run's dataset is now, if it was moved.")
_PREDICTOR = flags.DEFINE_string(
    "predictor", None, "ensemble, best (the student with the best validation AUC) or 0 to K-1; all if absent."
)
_METRICS = flags.DEFINE_list(
    "metrics",
    [name for name, one in metrics.METRICS.items() if one.trained],
    f"Of {', '.join(metrics.METRICS)}; the groups of gauc are the values of --by.",
)
_BY = flags.DEFINE_string("by", None, "A field: a line for each of its values too.")
_MOST = flags.DEFINE_integer("most", 20, "Values of --by; the rarer ones are joined.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "A .csv or .parquet file for the label and predictions of each row.")
_PLOT = flags.DEFINE_string("plot", None, "A directory for evaluation.png and evaluation.svg.")


def main(argv: list[str]) -> None:
    """Print one JSON line per predictor: {"predictor", "split", "auc", "logloss"}."""
    del argv
    _check_metrics()
    out = None if _OUT.value is None else shell.path(_OUT)
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out={out}: must end in .csv or .parquet")
    run = load_run(shell.path(_WORKDIR), None if _DATA.value is None else shell.path(_DATA))
    wanted = None if _PREDICTOR.value is None else run.result.find("--predictor", _PREDICTOR.value)
    rows = split_of(run, _SPLIT.value)
    logits = logits_of(run, rows, _SPLIT.value)
    chosen = {k: logits[k] for k in range(run.students)} | {"ensemble": logits[-1]}
    if _PREDICTOR.value is not None:
        name = "ensemble" if wanted is None else wanted
        chosen = {name: chosen[name]}
    _print(run, rows, chosen)
    if out is not None:
        _write(out, rows, chosen)
    if _PLOT.value is not None:
        _draw(shell.path(_PLOT), run, rows, chosen)


def _check_metrics() -> None:
    for name in _METRICS.value:
        if name not in metrics.METRICS:
            raise unknown("--metrics", name, metrics.METRICS)
        if metrics.METRICS[name].needs and _BY.value is None:
            raise InputError(f"--metrics={name} is over groups; name their field by --by")


def _print(run: Run, rows: Split, chosen: dict[int | str, NDArray[np.float32]]) -> None:
    needs, groups = {}, []
    if _BY.value is not None:
        needs["groups"] = rows.ids[:, find_field(run, _BY.value, "--by")[1]][:, 0]
        groups = rows_by_value(run, rows, _BY.value, _MOST.value)
    names = _METRICS.value
    values = metrics.evaluate(rows.labels, np.stack(list(chosen.values())), names, **needs)
    for predictor, found in zip(chosen, values, strict=True):
        print(json.dumps({"predictor": predictor, "split": _SPLIT.value} | found, allow_nan=False))
    of_rows = [name for name in names if not metrics.METRICS[name].needs]
    for label, places in groups:
        clicks = int(rows.labels[places].sum())
        about = {"by": _BY.value, "value": label, "rows": len(places), "clicks": clicks}
        for predictor, logits in chosen.items():
            told = judge(rows.labels[places], logits[places], of_rows)
            head = {"predictor": predictor, "split": _SPLIT.value}
            print(json.dumps(head | about | told, allow_nan=False))


def _write(out: Path, rows: Split, chosen: dict[int | str, NDArray[np.float32]]) -> None:
    """The rows in their order: label, p_ensemble, p_0 .. p_{K-1}."""
    order = sorted(chosen, key=lambda name: -1 if name == "ensemble" else int(name))
    predicted = {f"p_{name}": metrics.probabilities(chosen[name]) for name in order}
    frame = pl.DataFrame({"label": np.asarray(rows.labels, np.int8)} | predicted)
    with directories.replacing_file(out) as (new, _):
        (frame.write_csv if out.suffix == ".csv" else frame.write_parquet)(new)


def _draw(out: Path, run: Run, rows: Split, chosen: dict[int | str, NDArray[np.float32]]) -> None:
    from ektf_jax.report import figures, judged  # only now: matplotlib takes a second

    shown = chosen
    if _PREDICTOR.value is None and run.students > 1:
        shown = {"ensemble": chosen["ensemble"], run.best: chosen[run.best]}
    named = {name if name == "ensemble" else f"student {name}": logits for name, logits in shown.items()}
    out.mkdir(parents=True, exist_ok=True)
    figures.save(judged.figure(np.asarray(rows.labels), named), out / "evaluation")
