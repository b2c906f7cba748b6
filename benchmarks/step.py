"""Median training step on random batches of a published shape, one variant per process: EKTF, or a model.

    python -m benchmarks.step --students=2,10                      what experiments.train runs, ML-1M
    python -m benchmarks.step --shape=criteo --students=2,10       on Criteo's schema and settings
    python -m benchmarks.step --shape=ml1m_afn --students=1        a model of Table 2 alone
    python -m benchmarks.step --students=2,10 --stack=vmap         the other stack axis
    python -m benchmarks.step --students=2,10 --unroll=1           a loop over copies, however few
    python -m benchmarks.step --students=32 --members=adapters     members of one network
    python -m benchmarks.step --students=32 --members=adapters --keep=32  which keep their activations
    python -m benchmarks.step --students=2,10 --activation=plain   BatchNorm, ReLU and dropout one by one
    python -m benchmarks.step --students=2,10 --matmul_dtype=bfloat16  factors of products rounded to bfloat16
    python -m benchmarks.step --students=2,10 --compiler=default   XLA's own choice of a library for products
    python -m benchmarks.step --students=2,10 --dropout=threefry   jax.random's bits instead of hashed ones
    GLIBC_TUNABLES= python -m benchmarks.step --students=2,10      temporaries mapped anew at every step

Prints a JSON line per K: milliseconds (median, minimum, maximum) and samples/s of the median. Absolute
figures move with the machine and with what else runs on it: compare variants run one after another.
"""

import json
import os
import resource
import time
from functools import partial
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from benchmarks import common
from ektf_jax import ensemble, transfer
from ektf_jax.config import MATMUL_DTYPES, MEMBERS, Config
from ektf_jax.layers import activation, blocks, dropout
from ektf_jax.training import build, compiler
from ektf_jax.training.optimizer import make_optimizer
from ektf_jax.training.step import init_state_on, make_train_step

IMPORTED_AT = time.time()

_SHAPE = flags.DEFINE_enum("shape", "ml1m", common.SHAPES + common.MODEL_SHAPES, "Schema and settings.")
_STUDENTS = flags.DEFINE_list("students", ["2", "10"], "K, one or more.")
_STACK = flags.DEFINE_enum("stack", "auto", ensemble.STACKS, "How a group is run.")
_UNROLL = flags.DEFINE_integer("unroll", ensemble.UNROLL_UP_TO, "Copies up to which no loop is made.")
_MEMBERS = flags.DEFINE_enum("members", "separate", MEMBERS, "What the copies of a student share.")
_KEEP = flags.DEFINE_integer("keep", ensemble.KEEP_UP_TO, "Members up to which activations are kept.")
_ACTIVATION = flags.DEFINE_enum("activation", "fused", ["fused", "plain"], "How BatchNorm to dropout is run.")
_MATMUL_DTYPE = flags.DEFINE_enum("matmul_dtype", "float32", MATMUL_DTYPES, "What dense layers multiply in.")
_DROPOUT = flags.DEFINE_enum("dropout", "hashed", ["hashed", "threefry"], "Where the bits come from.")
_COMPILER = flags.DEFINE_enum("compiler", "tuned", ["tuned", "default"], "XLA's options.")
_STEPS = flags.DEFINE_integer("steps", 15, "Timed steps.")


def threefry_dropout(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """The textbook dropout that `ektf_jax.layers.dropout` replaces."""
    return jax.numpy.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def plain_activation(
    x: jax.Array, scale: jax.Array, bias: jax.Array, rate: float, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The textbook functions that `ektf_jax.layers.activation` replaces."""
    mean, variance = x.mean(axis=0), x.var(axis=0)
    z = (x - mean) * jax.lax.rsqrt(variance + activation.EPSILON) * scale + bias
    return dropout.dropout(jax.nn.relu(z), rate, key), mean, variance


def measure(shape: str, num_students: int, steps: int) -> dict[str, Any]:
    """Time the step of one K."""
    nested = common.config(shape, num_students)
    nested["ensemble"] |= {"stack": _STACK.value, "matmul_dtype": _MATMUL_DTYPE.value}
    if _MEMBERS.value == "adapters":
        # Each by its own loss, which is how members are trained.
        nested["ensemble"]["members"] = "adapters"
        nested["transfer"]["ektf"] = {"kd": False, "dml": False}
    config, schema = Config.from_dict(nested), common.schema(shape)
    batch_size = config.data.batch_size
    batch = common.random_rows(schema, batch_size)
    mesh = build.make_mesh(config)
    make_model = partial(build.make_model, config, schema, jax.random.key(0), mesh=mesh)
    optimizer = make_optimizer(config.train.clip_norm)
    graphdef, state = init_state_on(mesh, make_model, optimizer, jax.random.key(1))
    jitted: Any = make_train_step(
        graphdef,
        optimizer,
        transfer.read(config.transfer),
        l2=config.embedding.l2,
        mesh=mesh,
        compiler_options=compiler.options(_MATMUL_DTYPE.value) if _COMPILER.value == "tuned" else None,
    )
    learning_rate = np.float32(config.train.learning_rate)
    jax.block_until_ready(state)
    built_at = time.time()
    started = time.perf_counter()
    step = jitted.lower(state, batch, learning_rate).compile()
    compile_seconds = time.perf_counter() - started
    state, _ = jax.block_until_ready(step(state, batch, learning_rate))
    first_step_seconds = time.perf_counter() - started
    times = []
    for _ in range(steps):
        started = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch, learning_rate))
        times.append(time.perf_counter() - started)
    return {
        "shape": shape,
        "students": num_students,
        "params": sum(leaf.size for leaf in jax.tree.leaves(state.parameters)),
        "ms": round(1e3 * float(np.median(times)), 1),
        "min_ms": round(1e3 * min(times), 1),
        "max_ms": round(1e3 * max(times), 1),
        "samples_per_second": round(batch_size / float(np.median(times))),
        "compile_seconds": round(compile_seconds, 2),
        "first_step_seconds": round(first_step_seconds, 2),
        "imported_at": IMPORTED_AT,
        "built_at": built_at,
        "temporary_mib": memory.temp_size_in_bytes >> 20 if (memory := step.memory_analysis()) else None,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "seconds": times,
    }


def main(argv: list[str]) -> None:
    """Measure every K of --students."""
    del argv
    logging.set_verbosity(logging.WARNING)
    ensemble.UNROLL_UP_TO, ensemble.KEEP_UP_TO = _UNROLL.value, _KEEP.value
    if _ACTIVATION.value == "plain" or _DROPOUT.value == "threefry":
        blocks.norm_relu_dropout = plain_activation  # type: ignore[assignment]
    if _DROPOUT.value == "threefry":
        blocks.dropout = dropout.dropout = threefry_dropout
    variant = {
        "stack": _STACK.value,
        "unroll": _UNROLL.value,
        "members": _MEMBERS.value,
        "keep": _KEEP.value,
        "matmul_dtype": _MATMUL_DTYPE.value,
        "compiler": _COMPILER.value,
        "dropout": _DROPOUT.value,
        "activation": _ACTIVATION.value,
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES"),
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "versions": common.versions("jax", "jaxlib", "flax", "optax"),
    }
    for num_students in _STUDENTS.value:
        found = measure(_SHAPE.value, int(num_students), _STEPS.value)
        print(json.dumps(found | variant), flush=True)


if __name__ == "__main__":
    app.run(main)
