"""Scoring raw CSV to Parquet, beside its parts: results/benchmarks/score.json.

    python -m benchmarks.score [--rows=1000000,10000000] [--scratch=DIR]

Synthetic files of Criteo's shape, and the MLP of Table 2 with weights that nobody trained. Each number of
rows is a process of its own, which scores the file with the one student, then reads and encodes its rows
without scoring, then runs the model on encoded rows: the first is bound by the other two, and `lost` is
what lies between it and the slower of them. Peak memory is that of the process after scoring.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks import common
from ektf_jax.bundle import export, reader
from ektf_jax.bundle.score import encoded_parts, score, tables
from ektf_jax.config import Config
from ektf_jax.data import criteo, encoded, encoder, generators, work
from ektf_jax.training import build

_ROWS = flags.DEFINE_list("rows", ["1000000"], "Rows to score, one or more sizes, rising.")
_SCRATCH = flags.DEFINE_string("scratch", None, "Where to put the files, 500 bytes a row; default: TMPDIR.")
_CHILD = flags.DEFINE_list("child", [], "Bundle and table of a measurement; what a child is given.")

_TRAINED_ON = 500_000
_MODEL_ROWS = 300_000  # at most


def make_predictor(data: Path, directory: Path) -> None:
    """A student of the dataset as a program, without training."""
    schema = encoded.open_schema(data)
    model = build.make_predictor(
        Config.from_dict(common.config("criteo", 1)), schema, jax.random.key(0)
    ).student(0)
    export.write_program(model, False, schema.num_slots, directory)
    encoder.write(encoder.of_dataset(data), directory)


def clock(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a call returns, its seconds, and those of its own on all processors together."""
    started, cpu = time.perf_counter(), time.process_time()
    return run(), time.perf_counter() - started, time.process_time() - cpu


def measure(directory: Path, table: Path) -> dict[str, Any]:
    """Rows per second of the whole and of its parts."""
    program = reader.open_program(directory, "jax", False)
    bundle = reader.Bundle({"students": 0}, encoder.read(directory), program)
    ids = np.zeros((4096, len(bundle.encoder.fields)), np.int32)
    bundle.logits(ids)  # compiles

    def encode() -> np.ndarray:
        for part in work.in_order(encoded_parts(bundle, tables(bundle.encoder.spec, [table]))):
            last = part.rows.ids
        return last

    scored, *whole = clock(lambda: score(bundle, [table], table.with_name("out.parquet"), names=()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    last, *encoder_alone = clock(encode)
    ids = np.resize(last, ids.shape)
    batches = min(scored.rows, _MODEL_ROWS) // len(ids)
    _, *model_alone = clock(lambda: [bundle.logits(ids) for _ in range(batches)])
    predicted = batches * len(ids)
    parts = {
        "score": (scored.rows, *whole),
        "encoder": (scored.rows, *encoder_alone),
        "model": (predicted, *model_alone),
    }
    rates = {name: round(rows / seconds) for name, (rows, seconds, _) in parts.items()}
    return {
        "rows": scored.rows,
        "rows_per_second": rates,
        "cpu_seconds_per_million_rows": {
            name: round(cpu / rows * 1e6, 2) for name, (rows, _, cpu) in parts.items()
        },
        "lost": round(1 - rates["score"] / min(rates["encoder"], rates["model"]), 3),
        "peak_gb": round(peak / 1e9, 2),
    }


def main(argv: list[str]) -> None:
    """Measure every size of --rows; write and print the JSON."""
    del argv
    if _CHILD.value:
        print(json.dumps(measure(*map(Path, _CHILD.value))))
        return
    runs = []
    with tempfile.TemporaryDirectory(dir=_SCRATCH.value, prefix="score-") as scratch:
        root = Path(scratch)
        generators.write("criteo_x4", root / "raw", _TRAINED_ON)
        criteo.prepare(root / "raw", root / "data")
        (root / "bundle").mkdir()
        make_predictor(root / "data", root / "bundle")
        for rows in map(int, _ROWS.value):
            generators.write("criteo_x4", root / f"{rows}", rows * 10 // 8)  # of 8:1:1, train.csv is scored
            child = f"--child={root / 'bundle'},{root / str(rows) / 'train.csv'}"
            runs.append(common.child_json(["-m", "benchmarks.score", child]))
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    versions = common.versions("jax", "jaxlib", "polars", "numpy")
    result = {"shape": "criteo", "versions": versions, "runs": runs}
    common.write("score", result)
    print(json.dumps(result))


if __name__ == "__main__":
    app.run(main)
