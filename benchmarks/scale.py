"""Scale on paper: what a training step needs and how long it takes at least: results/benchmarks/scale.json.

    python -m benchmarks.scale [--cases=criteo:2,criteo:10,kdd12:10,billion:10] [--check=criteo:2]

From schema and K: parameters, bytes on a device, FLOPs and bytes moved by a step, and the step time that an
accelerator's public rates allow. The same model, given the rates that this machine reaches in a plain
product and a plain copy, predicts the steps of --check, which are then measured.

A step has two phases. In the students' the products compete with the activations' traffic for time, and the
slower sets it; in the parameters' every number is moved a fixed number of times. On several devices the
rows of the table and the batch are split, and the embeddings that devices exchange come on top.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags, logging
from flax import nnx

from benchmarks import common, peaks
from ektf_jax import summary
from ektf_jax.config import Config
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.ensemble import Ensemble, count_parameters
from ektf_jax.training import build, compiler

_CASES = flags.DEFINE_list(
    "cases", ["criteo:2", "criteo:10", "kdd12:10", "billion:10"], "SHAPE:K, any number."
)
_CHECK = flags.DEFINE_list("check", ["criteo:2"], "SHAPE:K of the steps measured here; empty: none.")
_STEPS = flags.DEFINE_integer("steps", 9, "Timed steps of a check.")

FLOAT = 4
# Times that each parameter's numbers pass between memory and processor. Gradient: the penalty reads the
# parameter, the gradient is written, its norm reads it. Adam: reads parameter, gradient and two moments,
# writes parameter and moments.
PARAMETER_PASSES = 10
# A saved activation is written and read back, and so is its gradient.
ACTIVATION_PASSES = 4
# An embedding is read from the table and written; its gradient is read, and added to the table's.
LOOKUP_PASSES = 5
# Forward once; backward, a product of the same size for the inputs and one for the weights.
TRAINING_PRODUCTS = 3


@dataclass(frozen=True)
class Device:
    """Public rates per second of an accelerator; FLOPs of a product of float32 arrays by JAX's default.

    That is TF32 on these GPUs and one pass of bfloat16 on these TPUs. `link` is one way, to its peers.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float
    link: float
    source: str


DEVICES = (
    Device("A100 SXM 80 GB", 156e12, 2.039e12, 80e9, 300e9, "NVIDIA A100 data sheet"),
    Device(
        *("H100 SXM", peaks.H100.flops["tf32"], peaks.H100.bandwidth, 80e9, 450e9),
        "NVIDIA H100 data sheet, without sparsity",
    ),
    Device("TPU v5e", 197e12, 0.819e12, 16e9, 200e9, "cloud.google.com/tpu/docs/v5e"),
    Device("TPU v5p", 459e12, 2.765e12, 95e9, 600e9, "cloud.google.com/tpu/docs/v5p"),
)


@dataclass(frozen=True)
class Needs:
    """What one training step of a model needs, all devices together; numbers of float32."""

    rows: int
    features: int
    table: int
    network: int
    activations: int
    lookups: int
    exchanged: int
    flops: int

    def bytes_moved(self) -> int:
        """Bytes between memory and processor in a step."""
        return FLOAT * (
            PARAMETER_PASSES * (self.table + self.network)
            + ACTIVATION_PASSES * self.activations
            + LOOKUP_PASSES * self.lookups
        )

    def bytes_held(self, devices: int) -> float:
        """Bytes on each of several devices: parameters, gradients, Adam's two moments, activations."""
        return FLOAT * (
            4 * (self.table / devices + self.network) + (self.activations + self.lookups) / devices
        )

    def seconds(self, device: Device, devices: int = 1) -> dict[str, float]:
        """The least time of each phase on `devices` of a kind."""
        products = self.flops / devices / device.flops
        traffic = FLOAT * ACTIVATION_PASSES * self.activations / devices / device.bandwidth
        passed = PARAMETER_PASSES * (self.table / devices + self.network)
        # Embeddings forth and gradients back, from all to all; the network's gradients, summed over all.
        sent = (2 * self.exchanged / devices + 2 * self.network) * (devices - 1) / devices
        return {
            "students": max(products, traffic),
            "parameters": FLOAT * (passed + LOOKUP_PASSES * self.lookups / devices) / device.bandwidth,
            "exchange": FLOAT * sent / device.link if devices > 1 else 0.0,
        }


def billion() -> Schema:
    """Criteo's fields with their vocabularies enlarged to 10^9 features together."""
    criteo = common.schema("criteo")
    factor = 1e9 / criteo.num_features
    entries = [(f.name, max(f.vocab_size, int(f.vocab_size * factor)), 1) for f in criteo.fields]
    return Schema("billion", make_fields(entries), {"train": 1, "valid": 1, "test": 1}, {})


def needs(shape: str, num_students: int) -> Needs:
    """Count a shape's needs on a model with the same fields and a vocabulary of next to nothing."""
    config = Config.from_dict(common.config("criteo" if shape == "billion" else shape, num_students))
    schema = billion() if shape == "billion" else common.schema(shape)
    rows = config.data.batch_size
    small = Schema("small", make_fields([(f.name, 2, f.max_len) for f in schema.fields]), {}, {})
    model = build.make_model(config, small, jax.random.key(0))
    columns = model.embedding.table.shape[1]
    network = count_parameters(model) - small.num_features * columns
    return Needs(
        rows=rows,
        features=schema.num_features,
        table=schema.num_features * columns,
        network=network,
        activations=saved_activations(model, rows, schema.num_slots) - network,
        lookups=rows * schema.num_slots * columns,
        exchanged=rows * schema.num_fields * columns,
        flops=TRAINING_PRODUCTS * rows * summary.flops_per_sample(model, schema.num_fields),
    )


def saved_activations(model: Ensemble, rows: int, slots: int) -> int:
    """Numbers that the backward pass needs of the forward one, weights included."""
    graphdef, parameters, *rest = nnx.split(model, nnx.Param, ...)
    ids = jax.ShapeDtypeStruct((rows, slots), jnp.int32)

    def pullback(parameters: nnx.State, ids: jax.Array) -> Callable:
        def students(parameters: nnx.State) -> jax.Array:
            merged = nnx.merge(graphdef, parameters, *rest, copy=True)
            return merged(ids, train=True, key=jax.random.key(0)).students

        return jax.vjp(students, parameters)[1]

    leaves = jax.tree.leaves(jax.eval_shape(pullback, parameters, ids))
    return sum(math.ceil(leaf.size * leaf.dtype.itemsize / FLOAT) for leaf in leaves)


def this_machine() -> Device:
    """The rates reached here: a product of a hidden layer's size, and one pass over 256 MB."""
    a, b = jnp.ones((10_000, 400)), jnp.ones((400, 400))
    x = jnp.ones(1 << 25)
    # By the library that multiplies in a step.
    multiply = jax.jit(jnp.matmul, compiler_options=dict(compiler.options("float32")))
    increment = jax.jit(lambda x: x + 1)
    product = best_seconds(lambda: multiply(a, b))
    copy = best_seconds(lambda: increment(x))
    return Device("this CPU", 2 * 10_000 * 400 * 400 / product, 2 * x.nbytes / copy, 0, 0, "measured")


def best_seconds(call: Callable[[], jax.Array], calls: int = 15) -> float:
    """The shortest of some calls, the first of which compiles."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - started)
    return min(times)


def predict(need: Needs, device: Device) -> dict[str, Any]:
    """The step on as few devices as hold it, in powers of two."""
    devices = 1
    while need.bytes_held(devices) > device.memory:
        devices *= 2
    phases = need.seconds(device, devices)
    total = sum(phases.values())
    return {
        "device": device.name,
        "devices": devices,
        "bytes_per_device": round(need.bytes_held(devices)),
        "seconds": {name: round(value, 6) for name, value in phases.items()},
        "step_seconds": round(total, 6),
        "samples_per_second": round(need.rows / total),
    }


def main(argv: list[str]) -> None:
    """Count, predict, and check."""
    del argv
    logging.set_verbosity(logging.WARNING)
    cases = []
    for shape, num_students in map(common.split_case, _CASES.value):
        need = needs(shape, num_students)
        cases.append(
            {
                "shape": shape,
                "students": num_students,
                **asdict(need),
                "bytes_held": round(need.bytes_held(1)),
                "bytes_moved": need.bytes_moved(),
                "predictions": [predict(need, device) for device in DEVICES],
            }
        )
    here = this_machine()
    checks = []
    for shape, num_students in map(common.split_case, _CHECK.value):
        phases = needs(shape, num_students).seconds(here)
        command = ["-m", "benchmarks.step", f"--shape={shape}", f"--students={num_students}"]
        measured = common.child_json([*command, f"--steps={_STEPS.value}"])["seconds"]
        predicted = sum(phases.values())
        checks.append(
            {
                "shape": shape,
                "students": num_students,
                "predicted_seconds": {name: round(value, 4) for name, value in phases.items()},
                "predicted_step_seconds": round(predicted, 4),
                "measured_step_seconds": common.spread(measured, 4),
                "measured_over_predicted": round(common.spread(measured)["median"] / predicted, 2),
            }
        )
    result = {
        "versions": common.versions("jax", "jaxlib", "flax"),
        "devices": [asdict(device) for device in DEVICES],
        "cases": cases,
        "this_machine": asdict(here),
        "checks": checks,
    }
    common.write("scale", result)
    print(json.dumps({"checks": checks, "this_machine": asdict(here)}))


if __name__ == "__main__":
    app.run(main)
