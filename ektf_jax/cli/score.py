"""Scores raw rows: `ektf score --bundle=BUNDLE --input=FILES --out=FILE` (docs/serving.md).

--workdir=DIR instead of a bundle scores with a finished run; --raw=DIR instead of tables scores the raw files
of the model's dataset, all of their rows or those of one --split that `prepare` makes of them. --by=COLUMN
adds GAUC to the metrics of rows with labels.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from absl import flags

from ektf_jax import metrics
from ektf_jax.bundle import judged, load
from ektf_jax.bundle.score import Scored, Scorer, columns_of, score, score_raw
from ektf_jax.cli import shell
from ektf_jax.data.schema import SPLITS
from ektf_jax.errors import InputError

_BUNDLE = flags.DEFINE_string("bundle", None, "The bundle to score with.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The finished run to score with.")
_DATA = flags.DEFINE_string("data", None, "Where the dataset of --workdir is now, if it was moved.")
_INPUT = flags.DEFINE_list("input", [], "Tables with the dataset's columns: CSV, TSV or Parquet.")
_RAW = flags.DEFINE_string("raw", None, "The directory of the dataset's own raw files.")
_SPLIT = flags.DEFINE_enum("split", None, SPLITS, "The rows of --raw to score; all of them without it.")
_SPLIT_SEED = flags.DEFINE_integer("split_seed", 2024, "Seed of the random split of --raw, as in prepare.")
_OUT = flags.DEFINE_string("out", None, "The .csv, .tsv or .parquet file to write.", required=True)
_KEEP = flags.DEFINE_list("keep", [], "Columns of the input that the output has, too.")
_METRICS = flags.DEFINE_list(
    "metrics",
    None,
    f"If there are labels: of {', '.join(metrics.METRICS)}. {', '.join(judged.METRICS)} if absent,"
    " with --by gauc too.",
)
_BY = flags.DEFINE_string("by", None, "A column, whose values are the groups of gauc.")
_RUNTIME = flags.DEFINE_string("runtime", None, "onnx or jax; onnx where it can be.")


def main(argv: list[str]) -> None:
    """Score, and print rows per second, unseen values and metrics."""
    del argv
    names = judged.choose(_METRICS.value, _BY.value)
    predictor = _predictor()
    scoring = _scoring(predictor)
    started = time.perf_counter()
    found = scoring(shell.path(_OUT), keep=_KEEP.value, names=names, by=_BY.value)
    seconds = time.perf_counter() - started
    print(f"{_OUT.value}: {found.rows:,} rows in {seconds:.1f} s, {found.rows / seconds:,.0f} rows/s")
    for name, count in found.unseen.items():
        if count:
            print(f"{name}: {count:,} rows ({count / found.rows:.1%}) have a value that training did not see")
    if found.unjudged is not None:
        print(f"no metrics: {found.unjudged}")
    if found.metrics is not None and (weight := predictor.encoder.spec.weight) is not None:
        lacking = found.unweighted
        print(
            f"metrics weigh rows by {weight}"
            if lacking is None
            else f"metrics count each row once: {lacking} has no column {weight}, the dataset's weights"
        )
    for name, values in zip(columns_of(predictor), found.metrics or (), strict=False):
        print(f"{name}: {'  '.join(f'{metric} {value:.6f}' for metric, value in values.items())}")


def _predictor() -> Scorer:
    if (_BUNDLE.value is None) == (_WORKDIR.value is None):
        raise InputError("give either --bundle or --workdir, what to score with")
    if _WORKDIR.value is not None and _RUNTIME.value is not None:
        raise InputError(f"--runtime={_RUNTIME.value} is of a --bundle, not of --workdir; leave it out")
    if _BUNDLE.value is not None:
        if _DATA.value is not None:
            raise InputError(f"--data={_DATA.value} is of --workdir, not of a --bundle; leave it out")
        return load(shell.path(_BUNDLE), runtime=_RUNTIME.value)
    from ektf_jax.runs import load_run  # here: a bundle needs nothing that trains

    return load_run(shell.path(_WORKDIR), None if _DATA.value is None else shell.path(_DATA))


def _scoring(predictor: Scorer) -> Callable[..., Scored]:
    """What is left to say is where the result goes, and what it holds."""
    if _RAW.value is not None and _INPUT.value:
        raise InputError("--input and --raw are both given; give one")
    if _RAW.value is not None:
        raw = shell.path(_RAW)
        return partial(score_raw, predictor, raw, split=_SPLIT.value, split_seed=_SPLIT_SEED.value)
    if _SPLIT.value is not None:
        raise InputError(f"--split={_SPLIT.value} is of the rows of --raw; leave it out")
    paths = [Path(name) for name in _INPUT.value]
    for path in paths:
        if not path.is_file():
            raise InputError(f"--input: {path} is no file; name the tables, separated by commas")
    return partial(score, predictor, paths)
