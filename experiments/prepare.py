"""Encodes a dataset: python -m experiments.prepare --dataset=ml1m --raw=DIR --out=DIR."""

import difflib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags

from ektf_jax.data import encoded, movielens
from ektf_jax.data.schema import SPLITS, Schema
from ektf_jax.errors import InputError
from experiments import cli

_DATASET = flags.DEFINE_string("dataset", None, "Which dataset: ml1m.", required=True)
_RAW = flags.DEFINE_string("raw", None, "The directory of the raw files.")
_OUT = flags.DEFINE_string("out", None, "The directory to write the encoded dataset to.", required=True)
_DOWNLOAD = flags.DEFINE_bool("download", False, "Fetch the raw files into --raw if they are not there.")
_SPLIT_SEED = flags.DEFINE_integer("split_seed", 2024, "Seed of the random split.")

# Instances, fields and features in the paper's Table 1.
_PAPER = {"ml1m": (739_012, 7, 9_751)}


def _ml1m(out: Path) -> Schema:
    if _RAW.value is None:
        raise InputError("--raw is missing; give the directory of MovieLens-1M's .dat files")
    raw = Path(_RAW.value)
    if _DOWNLOAD.value:
        movielens.download(raw)
    return movielens.prepare(raw, out, split_seed=_SPLIT_SEED.value)


DATASETS: dict[str, Callable[[Path], Schema]] = {"ml1m": _ml1m}


def main(argv: list[str]) -> None:
    """Prepares --dataset and prints what it holds."""
    del argv
    start = time.perf_counter()
    name, out = _DATASET.value, Path(_OUT.value)
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"--dataset is {name!r}; it must be one of {', '.join(sorted(DATASETS))}{hint}")
    before = _stamp(out)
    schema = DATASETS[name](out)
    state = "up to date" if before == _stamp(out) else "written"
    print(f"{out}: {state}")
    print(_summary(schema, _click_rate(out), time.perf_counter() - start))


def _stamp(out: Path) -> tuple[int, int] | None:
    """Which schema.json there is; every write makes a new one."""
    path = out / "schema.json"
    if not path.exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _click_rate(out: Path) -> float:
    labels = [encoded.open_split(out, split).labels for split in SPLITS]
    return float(sum(part.sum(dtype=np.float64) for part in labels) / sum(len(part) for part in labels))


def _summary(schema: Schema, click_rate: float, seconds: float) -> str:
    counts = (sum(schema.splits.values()), schema.num_fields, schema.num_features)
    paper = tuple(f"{count:,}" for count in _PAPER.get(schema.dataset, ())) or ("-",) * 3
    rows = [
        (schema.dataset, "here", "paper, Table 1"),
        *zip(("instances", "fields", "features"), (f"{count:,}" for count in counts), paper, strict=True),
        *((f"{split} rows", f"{rows:,}", "") for split, rows in schema.splits.items()),
        ("click rate", f"{click_rate:.4f}", ""),
        ("seconds", f"{seconds:.2f}", ""),
    ]
    return "\n".join(f"{label:<12}{here:>12}{there:>18}".rstrip() for label, here, there in rows)


if __name__ == "__main__":
    cli.run(main)
