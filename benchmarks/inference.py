"""Latency and throughput of predictions, ours beside PyTorch's: results/benchmarks/inference.json.

    python -m benchmarks.inference [--peer_python=PYTHON] [--shape=ml1m] [--students=2,10] [--repeat=3]

Times a call from rows in numpy to logits, in evaluation mode, of the ensemble of K students and of one
student alone (an ensemble of one, to us): of the live model, of its program in a bundle, of its ONNX program
where jax2onnx and onnxruntime are installed (the extra `onnx`), and of the peer if its Python is named. They
take turns.
"""

import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from benchmarks import common
from ektf_jax.bundle import export, reader
from ektf_jax.config import Config
from ektf_jax.data.loader import Batch
from ektf_jax.training import build, compiler
from ektf_jax.training.optimizer import make_optimizer
from ektf_jax.training.step import init_state, make_predict

_PEER = flags.DEFINE_string("peer_python", None, "An interpreter with torch and fuxictr.")
_SHAPE = flags.DEFINE_enum("shape", "ml1m", common.SHAPES, "Schema and settings.")
_STUDENTS = flags.DEFINE_list("students", ["2", "10"], "K of the ensemble, one or more.")
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "64", "4096"], "B, one or more.")
_CALLS = flags.DEFINE_integer("calls", 200, "Timed calls per turn; a tenth of them from 4,096 rows on.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "Turns of each side.")

Call = Callable[[Any], Any]


def make_calls(num_students: int) -> dict[str, Call]:
    """For each side of ours: batch -> logits of K freshly initialised students, ready."""
    config = Config.from_dict(common.config(_SHAPE.value, num_students))
    schema = common.schema(_SHAPE.value)
    model = build.make_predictor(config, schema, jax.random.key(0))
    graphdef, state = init_state(model, make_optimizer(1.0), jax.random.key(1))
    options = compiler.options(config.ensemble.matmul_dtype)
    predict = make_predict(graphdef, compiler_options=options)
    calls = {"live": lambda batch: jax.block_until_ready(predict(state.parameters, state.statistics, batch))}
    installed = all(map(importlib.util.find_spec, ("jax2onnx", "onnxruntime")))
    with tempfile.TemporaryDirectory() as directory:
        export.write_program(model, True, schema.num_slots, Path(directory), with_onnx=installed)
        for runtime in ("jax", *(["onnx"] if installed else [])):
            program = reader.open_program(Path(directory), runtime, installed)
            calls[f"{runtime} bundle"] = partial(_of_ids, program)
    return calls


def _of_ids(program: reader.Program, batch: Batch) -> Any:
    return program(np.asarray(batch.ids))


def calls_at(rows: int) -> int:
    """How many calls of so many rows are timed in a turn."""
    return _CALLS.value if rows < 4096 else max(1, _CALLS.value // 10)


def clock(call: Call, batch: Any, count: int) -> list[float]:
    """Seconds of each call, after a few to warm up."""
    for _ in range(3):
        call(batch)
    times = []
    for _ in range(count):
        started = time.perf_counter()
        call(batch)
        times.append(time.perf_counter() - started)
    return times


def told(seconds: list[float], rows: int) -> dict[str, Any]:
    """Median and 99th percentile, and rows per second at the median."""
    rate = round(rows / float(np.median(seconds)))
    p99 = round(float(np.percentile(seconds, 99)), 6)
    return common.spread(seconds, 6) | {"p99": p99, "rows_per_second": rate}


def measure(students: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The cases of an ensemble of so many students and of one alone; the peer's versions."""
    schema = common.schema(_SHAPE.value)
    batch_sizes = [int(size) for size in _BATCH_SIZES.value]
    calls = {"student": make_calls(1), "ensemble": make_calls(students)}
    sides = [*calls["student"], *(["peer"] if _PEER.value else [])]
    seconds: dict[tuple[str, int], dict[str, list[float]]] = {
        (what, rows): {side: [] for side in sides} for what in calls for rows in batch_sizes
    }
    versions: dict[str, str] = {}
    for _ in range(_REPEAT.value):
        for (what, rows), into in seconds.items():
            for side, call in calls[what].items():
                into[side] += clock(call, common.random_rows(schema, rows), calls_at(rows))
        config = common.config(_SHAPE.value, students)
        for rows in batch_sizes:
            if _PEER.value is None:
                break
            peer = common.peer(
                config, schema, _PEER.value, task="predict", batch_sizes=[rows], calls=calls_at(rows)
            )
            versions = peer["versions"]
            for what in calls:
                seconds[what, rows]["peer"] += peer[what][str(rows)]
    cases = [
        {"what": what, "students": students, "rows": rows}
        | {"sides": {side: told(times, rows) for side, times in by_side.items()}}
        for (what, rows), by_side in seconds.items()
    ]
    return cases, versions


def main(argv: list[str]) -> None:
    """Measure every K."""
    del argv
    logging.set_verbosity(logging.WARNING)
    cases: list[dict[str, Any]] = []
    for students in map(int, _STUDENTS.value):
        found, peer = measure(students)
        cases += found
    versions = {"ours": common.versions("jax", "jaxlib", "flax", "jax2onnx", "onnxruntime")}
    result = {"shape": _SHAPE.value, "versions": versions | ({"peer": peer} if peer else {}), "cases": cases}
    common.write("inference", result)
    print(json.dumps(result))


if __name__ == "__main__":
    app.run(main)
