"""Latency and throughput of predictions, ours beside PyTorch's: results/benchmarks/inference.json.

    python -m benchmarks.inference --peer_python=PYTHON [--shape=ml1m] [--students=10] [--repeat=3]

Times a call from rows in numpy to logits, in evaluation mode, of the ensemble of K students and of one
student alone (an ensemble of one, to us). This process and the peer's take turns.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from benchmarks import common
from ektf_jax.config import Config
from ektf_jax.data.loader import Batch
from ektf_jax.training import build, compiler
from ektf_jax.training.optimizer import make_optimizer
from ektf_jax.training.step import init_state, make_predict

_PEER = flags.DEFINE_string("peer_python", None, "An interpreter with torch and fuxictr.", required=True)
_SHAPE = flags.DEFINE_enum("shape", "ml1m", common.SHAPES, "Schema and settings.")
_STUDENTS = flags.DEFINE_integer("students", 10, "K of the ensemble.")
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "64", "4096"], "B, one or more.")
_CALLS = flags.DEFINE_integer("calls", 30, "Timed calls per turn.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "Turns of each side.")


def make_call(num_students: int) -> Callable[[Batch], Any]:
    """batch -> logits of K freshly initialised students, ready."""
    config = Config.from_dict(common.config(_SHAPE.value, num_students))
    model = build.make_model(config, common.schema(_SHAPE.value), jax.random.key(0))
    graphdef, state = init_state(model, make_optimizer(1.0), jax.random.key(1))
    options = compiler.options(config.ensemble.matmul_dtype)
    predict = make_predict(graphdef, compiler_options=options)
    return lambda batch: jax.block_until_ready(predict(state.parameters, state.statistics, batch))


def clock(call: Callable[[Batch], Any], batch: Batch) -> list[float]:
    """Seconds of each call, after a few to warm up."""
    for _ in range(3):
        call(batch)
    times = []
    for _ in range(_CALLS.value):
        started = time.perf_counter()
        call(batch)
        times.append(time.perf_counter() - started)
    return times


def main(argv: list[str]) -> None:
    """Measure every batch size."""
    del argv
    logging.set_verbosity(logging.WARNING)
    schema = common.schema(_SHAPE.value)
    batch_sizes = [int(size) for size in _BATCH_SIZES.value]
    calls = {"student": make_call(1), "ensemble": make_call(_STUDENTS.value)}
    seconds: dict[tuple[str, int], tuple[list[float], list[float]]] = {
        (what, rows): ([], []) for what in calls for rows in batch_sizes
    }
    config = common.config(_SHAPE.value, _STUDENTS.value)
    for _ in range(_REPEAT.value):
        peer = common.peer(
            config, schema, _PEER.value, task="predict", batch_sizes=batch_sizes, calls=_CALLS.value
        )
        for (what, rows), (ours, theirs) in seconds.items():
            ours += clock(calls[what], common.random_rows(schema, rows))
            theirs += peer[what][str(rows)]
    cases = [
        {
            "what": what,
            "rows": rows,
            "ours_seconds": common.spread(ours, 6),
            "peer_seconds": common.spread(theirs, 6),
            "ours_rows_per_second": round(rows / float(np.median(ours))),
            "peer_rows_per_second": round(rows / float(np.median(theirs))),
            "speedup": round(float(np.median(theirs) / np.median(ours)), 2),
        }
        for (what, rows), (ours, theirs) in seconds.items()
    ]
    versions = {"ours": common.versions("jax", "jaxlib", "flax"), "peer": peer["versions"]}
    result = {"shape": _SHAPE.value, "students": _STUDENTS.value, "versions": versions, "cases": cases}
    common.write("inference", result)
    print(json.dumps(result))


if __name__ == "__main__":
    app.run(main)
