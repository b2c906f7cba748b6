"""Median training step of EKTF over K MLPs on random batches of the ML-1M shape, one variant per process.

    python -m benchmarks.step --students=2,10                      what experiments.train runs
    python -m benchmarks.step --students=2,10 --stack=vmap         the other stack axis
    python -m benchmarks.step --students=2,10 --unroll=1           a scan of one copy at a time
    python -m benchmarks.step --students=2,10 --dropout=threefry   jax.random's bits instead of hashed ones
    python -m benchmarks.step --students=2,10 --malloc=default     temporaries mapped anew at every step

Prints a JSON line per K: milliseconds (median, minimum, maximum) and samples/s of the median. Absolute
figures move with the machine and with what else runs on it: compare variants run one after another.
"""

import json
import os
import time
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from ektf_jax import ensemble, transfer
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.ensemble import Ensemble
from ektf_jax.students import MLP, layers
from ektf_jax.training.step import init_state, make_optimizer, make_train_step
from experiments import cli

_STUDENTS = flags.DEFINE_list("students", ["2", "10"], "K, one or more.")
_STACK = flags.DEFINE_enum("stack", "auto", ["auto", "scan", "vmap"], "How a group is run.")
_UNROLL = flags.DEFINE_integer("unroll", ensemble.SCAN_UNROLL, "Copies in the body of a scan.")
_DROPOUT = flags.DEFINE_enum("dropout", "hashed", ["hashed", "threefry"], "Where the bits come from.")
_MALLOC = flags.DEFINE_enum("malloc", "kept", ["kept", "default"], "Whether freed memory is kept.")
_STEPS = flags.DEFINE_integer("steps", 15, "Timed steps.")

BATCH_SIZE = 4096
# Name, vocabulary, slots: the published ML-1M schema (9,751 features).
FIELDS = (
    ("UserID", 6042, 1),
    ("Gender", 4, 1),
    ("Age", 9, 1),
    ("Occupation", 23, 1),
    ("MovieID", 3643, 1),
    ("Release", 10, 1),
    ("Genres", 20, 5),
)


def threefry_dropout(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """The textbook dropout that `ektf_jax.dropout` replaces."""
    return jax.numpy.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def measure(num_students: int) -> dict[str, Any]:
    """Time the step of one K."""
    schema = Schema("ml1m", make_fields(FIELDS), {"train": 1, "valid": 1, "test": 1}, {})
    rng = np.random.default_rng(0)
    columns = [
        rng.integers(field.offset + 1, field.oov + 1, BATCH_SIZE)
        for field in schema.fields
        for _ in range(field.max_len)
    ]
    ids = np.stack(columns, axis=1).astype(np.int32)
    labels = rng.integers(0, 2, BATCH_SIZE).astype(np.float32)
    model = Ensemble(
        schema, [(MLP, num_students)], embedding_dim=16, stack=_STACK.value, key=jax.random.key(0)
    )
    optimizer = make_optimizer(10.0)
    graphdef, state = init_state(model, optimizer, jax.random.key(1))
    step = make_train_step(graphdef, optimizer, transfer.make("ektf"), l2=0.01)
    started = time.perf_counter()
    state, _ = jax.block_until_ready(step(state, ids, labels, 1e-3))
    compile_seconds = time.perf_counter() - started
    times = []
    for _ in range(_STEPS.value):
        started = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, ids, labels, 1e-3))
        times.append(time.perf_counter() - started)
    return {
        "students": num_students,
        "stack": _STACK.value,
        "unroll": _UNROLL.value,
        "dropout": _DROPOUT.value,
        "malloc": _MALLOC.value,
        "ms": round(1e3 * float(np.median(times)), 1),
        "min_ms": round(1e3 * min(times), 1),
        "max_ms": round(1e3 * max(times), 1),
        "samples_per_second": round(BATCH_SIZE / float(np.median(times))),
        "first_step_seconds": round(compile_seconds, 2),
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
    }


def main(argv: list[str]) -> None:
    """Measure every K of --students."""
    del argv
    logging.set_verbosity(logging.WARNING)
    if _MALLOC.value == "kept":
        cli.keep_freed_memory()
    ensemble.SCAN_UNROLL = _UNROLL.value
    if _DROPOUT.value == "threefry":
        layers.dropout = threefry_dropout
    for num_students in _STUDENTS.value:
        print(json.dumps(measure(int(num_students))), flush=True)


if __name__ == "__main__":
    app.run(main)
