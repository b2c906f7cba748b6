"""Encodes a dataset: `ektf prepare --dataset=NAME --raw=DIR --out=DIR` (docs/datasets.md)."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from ektf_jax.cli import shell
from ektf_jax.data import criteo, custom, encoded, ids, ipinyou, kdd12, kkbox, movielens
from ektf_jax.data.schema import SPLITS, Schema
from ektf_jax.errors import InputError, unknown

_DATASET = flags.DEFINE_string(
    "dataset", None, "criteo, ml1m, kdd12, ipinyou, kkbox, custom or ids.", required=True
)
_RAW = flags.DEFINE_string("raw", None, "The directory of the raw files.")
_OUT = flags.DEFINE_string("out", None, "The directory to write the encoded dataset to.", required=True)
_DOWNLOAD = flags.DEFINE_bool("download", False, "Fetch the raw files into --raw if they are not there.")
_SPLIT_SEED = flags.DEFINE_integer("split_seed", 2024, "Seed of the random split, where none is given.")
_PAPER_BUCKETS = flags.DEFINE_bool(
    "paper_buckets", False, "criteo, kdd12: numbers up to 2 are all bucket 1, as the paper has it."
)
_TABLE = flags.DEFINE_string("schema", None, "custom: the YAML file that describes the table.")

# The flags that not every dataset has.
_OF = {"download": ("ml1m",), "paper_buckets": ("criteo", "kdd12"), "schema": ("custom",)}

# Instances, fields and features in the paper's Table 1.
_PAPER = {
    "criteo": (45_840_617, 39, 910_747),
    "ml1m": (739_012, 7, 9_751),
    "kdd12": (141_371_038, 13, 4_668_096),
    "ipinyou": (19_495_974, 16, 665_765),
    "kkbox": (7_377_418, 13, 91_756),
}


def _ml1m(raw: Path, out: Path) -> Schema:
    if _DOWNLOAD.value:
        movielens.download(raw)
    return movielens.prepare(raw, out, split_seed=_SPLIT_SEED.value)


def _criteo(raw: Path, out: Path) -> Schema:
    return criteo.prepare(raw, out, split_seed=_SPLIT_SEED.value, paper_buckets=_PAPER_BUCKETS.value)


def _kdd12(raw: Path, out: Path) -> Schema:
    return kdd12.prepare(raw, out, split_seed=_SPLIT_SEED.value, paper_buckets=_PAPER_BUCKETS.value)


def _kkbox(raw: Path, out: Path) -> Schema:
    return kkbox.prepare(raw, out, split_seed=_SPLIT_SEED.value)


def _custom(raw: Path, out: Path) -> Schema:
    if _TABLE.value is None:
        raise InputError(
            "--schema is missing; give the YAML file that describes the table (docs/datasets.md)"
        )
    return custom.prepare(shell.find(shell.path(_TABLE)), raw, out, split_seed=_SPLIT_SEED.value)


DATASETS: dict[str, Callable[[Path, Path], Schema]] = {
    "criteo": _criteo,
    "ml1m": _ml1m,
    "kdd12": _kdd12,
    "ipinyou": ipinyou.prepare,
    "kkbox": _kkbox,
    "custom": _custom,
    "ids": ids.prepare,
}


def main(argv: list[str]) -> None:
    """Prepares --dataset and prints what it holds."""
    del argv
    start = time.perf_counter()
    name, out = _DATASET.value, shell.path(_OUT)
    if name not in DATASETS:
        raise unknown("--dataset", name, DATASETS)
    for flag, of in _OF.items():
        if flags.FLAGS[flag].value and name not in of:
            raise InputError(f"--{flag} is of --dataset={' or '.join(of)}, not of {name}; leave it out")
    if _RAW.value is None:
        raise InputError("--raw is missing; give the directory of the raw files (docs/datasets.md)")
    before = _stamp(out)
    schema = DATASETS[name](shell.path(_RAW), out)
    state = "up to date" if before == _stamp(out) else "written"
    print(f"{out}: {state}")
    if schema.source.get("synthetic"):
        print("synthetic: the raw files were made up by ektf_jax.data.generators; schema.json says so")
    for line in _coverage(out, schema):
        print(line)
    print(_summary(schema, _click_rate(out, schema), time.perf_counter() - start))


def _stamp(out: Path) -> tuple[int, int] | None:
    """Which schema.json there is; every write makes a new one."""
    path = out / "schema.json"
    if not path.exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _distinct_splits(schema: Schema) -> list[str]:
    """The splits, without valid if its rows are test's, as in iPinYou."""
    both = any(file.get("splits") == ["valid", "test"] for file in _raw_files(schema))
    return [split for split in SPLITS if not (both and split == "valid")]


def _raw_files(schema: Schema) -> list[dict[str, Any]]:
    files = schema.source.get("files")
    return files if isinstance(files, list) else []


def _click_rate(out: Path, schema: Schema) -> float:
    labels = [encoded.open_split(out, split).labels for split in _distinct_splits(schema)]
    return float(sum(part.sum(dtype=np.float64) for part in labels) / sum(len(part) for part in labels))


def _coverage(out: Path, schema: Schema) -> list[str]:
    """How many of the values of each field with pretrained vectors have one."""
    given = [field for field in schema.fields if field.pretrained is not None]
    lines = []
    for field, vectors in zip(given, encoded.open_vectors(out, schema), strict=True):
        has, values = int(np.any(vectors, axis=1).sum()), field.vocab_size - 2
        lines.append(
            f"{field.name}: {has:,} of {values:,} values ({has / values:.1%}) have vectors, of"
            f" {field.pretrained} numbers"
        )
    return lines


def _summary(schema: Schema, click_rate: float, seconds: float) -> str:
    counts = (
        sum(schema.splits[split] for split in _distinct_splits(schema)),
        schema.num_fields,
        schema.num_features,
    )
    paper = tuple(f"{count:,}" for count in _PAPER.get(schema.dataset, ())) or ("-",) * 3
    rows = [
        (schema.dataset, "here", "paper, Table 1"),
        *zip(("instances", "fields", "features"), (f"{count:,}" for count in counts), paper, strict=True),
        *((f"{split} rows", f"{rows:,}", "") for split, rows in schema.splits.items()),
        ("click rate", f"{click_rate:.4f}", ""),
        ("seconds", f"{seconds:.2f}", ""),
    ]
    return "\n".join(f"{label:<12}{here:>12}{there:>18}".rstrip() for label, here, there in rows)
