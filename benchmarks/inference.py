"""Latency and throughput of predictions, ours beside PyTorch's: results/benchmarks/inference.json.

    python -m benchmarks.inference [--peer_python=PYTHON] [--cases=ml1m:2,ml1m:10,ml1m_latest:3] [--repeat=3]

Times a call from rows in numpy to logits, in evaluation mode, of every kind of student of a case alone and of
the ensemble: of the live model, of its program in a bundle, of its ONNX program where jax2onnx and
onnxruntime are installed (the extra `onnx`), and of the peer if its Python is named, eager and, where that
has onnxscript and onnxruntime, as ONNX. They take turns.
"""

import copy
import importlib.util
import json
import tempfile
import time
from collections import defaultdict
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
from ektf_jax.data.schema import Schema
from ektf_jax.training import build, compiler
from ektf_jax.training.optimizer import make_optimizer
from ektf_jax.training.step import init_state, make_predict

_PEER = flags.DEFINE_string("peer_python", None, "An interpreter with torch and fuxictr.")
_CASES = flags.DEFINE_list("cases", ["ml1m:2", "ml1m:10", "ml1m_latest:3"], "SHAPE:K of the ensembles.")
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "64", "4096"], "B, one or more.")
_CALLS = flags.DEFINE_integer("calls", 200, "Timed calls per turn; a tenth of them from 4,096 rows on.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "Turns of each side.")

Call = Callable[[Any], Any]


def models(shape: str, students: int) -> dict[str, dict[str, Any]]:
    """Configs by what they predict with: each kind of student alone, and the ensemble."""
    whole = common.config(shape, students)
    found = {}
    for label, options in whole["ensemble"]["students"].items():
        alone = copy.deepcopy(whole)
        alone["ensemble"] |= {"num_students": 1, "students": {label: options}}
        found[label] = alone
    return found | {"ensemble": whole}


def make_calls(nested: dict[str, Any], schema: Schema) -> dict[str, Call]:
    """For each side of ours: batch -> logits of freshly initialised students, ready."""
    config = Config.from_dict(nested)
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


def measure(nested: dict[str, Any], schema: Schema) -> tuple[dict[int, Any], dict[str, str]]:
    """By number of rows, what each side takes; the peer's versions."""
    batch_sizes = [int(size) for size in _BATCH_SIZES.value]
    calls = make_calls(nested, schema)
    seconds: dict[int, dict[str, list[float]]] = {rows: defaultdict(list) for rows in batch_sizes}
    versions: dict[str, str] = {}
    what = "student" if nested["ensemble"]["num_students"] == 1 else "ensemble"
    for _ in range(_REPEAT.value):
        for rows, into in seconds.items():
            for side, call in calls.items():
                into[side] += clock(call, common.random_rows(schema, rows), calls_at(rows))
        if _PEER.value is None:
            continue
        counts = {str(rows): calls_at(rows) for rows in batch_sizes}
        peer = common.peer(nested, schema, _PEER.value, task="predict", what=what, calls=counts)
        versions = peer["versions"]
        for how, side in (("eager", "peer"), ("onnx", "peer, ONNX")):
            for rows, into in seconds.items() if how in peer else ():
                into[side] += peer[how][str(rows)]
    return {
        rows: {side: told(times, rows) for side, times in by_side.items()}
        for rows, by_side in seconds.items()
    }, versions


def main(argv: list[str]) -> None:
    """Measure every model; of several cases of a shape, the students of the first."""
    del argv
    logging.set_verbosity(logging.WARNING)
    cases: list[dict[str, Any]] = []
    versions = {"ours": common.versions("jax", "jaxlib", "flax", "jax2onnx", "onnxruntime")}
    for shape, students in map(common.split_case, _CASES.value):
        for what, nested in models(shape, students).items():
            if what != "ensemble" and any((one["shape"], one["what"]) == (shape, what) for one in cases):
                continue
            found, peer = measure(nested, common.schema(shape))
            versions |= {"peer": peer} if peer else {}
            size = nested["ensemble"]["num_students"]
            cases += [
                {"shape": shape, "what": what, "students": size, "rows": rows, "sides": sides}
                for rows, sides in found.items()
            ]
            common.write("inference", {"versions": versions, "cases": cases})
    print(json.dumps(cases))


if __name__ == "__main__":
    app.run(main)
