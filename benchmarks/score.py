"""Scoring raw CSV to Parquet, beside its parts: results/benchmarks/score.json.

    python -m benchmarks.score [--rows=1000000,10000000] [--scratch=DIR]

Synthetic files of Criteo's shape, and the MLP of Table 2 with weights that nobody trained. Each number of rows
is a process of its own, which scores the file with the ensemble's one student, then reads and encodes its rows
without scoring, then runs the model on as many encoded rows: the first is bound by the other two, and `lost` is
what lies between it and the slower of them. Peak memory is that of the process after scoring.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks import common
from ektf_jax.bundle import export, reader
from ektf_jax.bundle.score import encoded_parts, score
from ektf_jax.config import Config
from ektf_jax.data import criteo, encoded, encoder, generators, work
from ektf_jax.training import build

_ROWS = flags.DEFINE_list("rows", ["1000000"], "Rows to score, one or more sizes, rising.")
_SCRATCH = flags.DEFINE_string("scratch", None, "Where to put the files, 500 bytes a row; default: TMPDIR.")
_CHILD = flags.DEFINE_list("child", [], "Bundle and table of a measurement; what a child is given.")

_TRAINED_ON = 500_000


def make_predictor(data: Path, directory: Path) -> None:
    """A student of the dataset as a program, without training."""
    schema = encoded.open_schema(data)
    model = build.make_predictor(
        Config.from_dict(common.config("criteo", 1)), schema, jax.random.key(0)
    ).student(0)
    export.write_program(model, False, schema.num_slots, directory)
    encoder.write(encoder.of_dataset(data), directory)


def measure(directory: Path, table: Path) -> dict[str, Any]:
    """Rows per second of the whole and of its parts."""
    program = reader.open_program(directory, "jax", False)
    bundle = reader.Bundle({"students": 0}, encoder.read(directory), program)
    bundle.logits(np.zeros((4096, len(bundle.encoder.fields)), np.int32))  # compiles
    started = time.perf_counter()
    scored = score(bundle, [table], table.with_name("out.parquet"), names=())
    seconds = {"score": time.perf_counter() - started}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = time.perf_counter()
    for part in work.in_order(encoded_parts(bundle, [table])):
        ids = part.ids
    seconds["encoder"] = time.perf_counter() - started
    started = time.perf_counter()
    done = 0
    while done < min(scored.rows, 1_000_000):
        bundle.logits(ids)
        done += len(ids)
    seconds["model"] = (time.perf_counter() - started) * scored.rows / done
    slower = max(seconds["encoder"], seconds["model"])
    return {
        "rows": scored.rows,
        "rows_per_second": {name: round(scored.rows / one) for name, one in seconds.items()},
        "lost": round(1 - slower / seconds["score"], 3),
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
