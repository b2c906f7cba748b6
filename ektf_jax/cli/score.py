"""Scores raw rows: `ektf score --bundle=BUNDLE --input=FILES --out=FILE` (docs/serving.md)."""

import time
from pathlib import Path

from absl import flags

from ektf_jax import metrics
from ektf_jax.bundle import load
from ektf_jax.bundle.score import score
from ektf_jax.cli import shell
from ektf_jax.errors import InputError, unknown

_BUNDLE = flags.DEFINE_string("bundle", None, "The bundle to score with.", required=True)
_INPUT = flags.DEFINE_list("input", [], "Tables with the dataset's columns: CSV, TSV or Parquet.")
_OUT = flags.DEFINE_string("out", None, "The .csv, .tsv or .parquet file to write.", required=True)
_KEEP = flags.DEFINE_list("keep", [], "Columns of the input that the output has, too.")
_METRICS = flags.DEFINE_list(
    "metrics",
    ["auc", "logloss", "calibration", "calibration_error"],
    "Metrics, if there are labels.",
)
_RUNTIME = flags.DEFINE_string("runtime", None, "onnx or jax; onnx where it can be.")


def main(argv: list[str]) -> None:
    """Score, and print rows per second, unseen values and metrics."""
    del argv
    for name in _METRICS.value:
        if name not in metrics.METRICS or metrics.METRICS[name].needs:
            raise unknown("--metrics", name, [n for n, one in metrics.METRICS.items() if not one.needs])
    bundle = load(shell.path(_BUNDLE), runtime=_RUNTIME.value)
    paths = [Path(name) for name in _INPUT.value]
    for path in paths:
        if not path.is_file():
            raise InputError(f"--input: {path} is no file; name the tables, separated by commas")
    started = time.perf_counter()
    found = score(bundle, paths, shell.path(_OUT), keep=_KEEP.value, names=_METRICS.value)
    seconds = time.perf_counter() - started
    print(f"{_OUT.value}: {found.rows:,} rows in {seconds:.1f} s, {found.rows / seconds:,.0f} rows/s")
    for name, count in found.unseen.items():
        if count:
            print(f"{name}: {count:,} rows ({count / found.rows:.1%}) have a value that training did not see")
    for name, values in zip(_names(bundle.students), found.metrics or (), strict=False):
        print(f"{name}: {'  '.join(f'{metric} {value:.6f}' for metric, value in values.items())}")


def _names(students: int) -> list[str]:
    return ["p_ensemble", *(f"p_{k}" for k in range(students))] if students else ["p"]
