"""A device against the CPU: python -m benchmarks.accelerator.correctness JSON

Prints a line per case of the task, {"cases": [...], "rows": B, "smoke": BOOL}: how far apart the two are.
Twenty steps are taken on the CPU; the device takes each of them too, from the CPU's state, and evaluates the
last one. From a state of its own, rounding grows from step to step: that is reported (`drift`), not judged.
"""

import json
import sys
import time
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.typing import ArrayLike

from benchmarks import accelerator, common
from ektf_jax import transfer
from ektf_jax.config import Config
from ektf_jax.data.loader import Batch
from ektf_jax.data.schema import Schema
from ektf_jax.metrics import evaluate
from ektf_jax.training import build
from ektf_jax.training.optimizer import make_optimizer
from ektf_jax.training.step import (
    Predict,
    StepMetrics,
    TrainState,
    TrainStep,
    init_state,
    make_predict,
    make_train_step,
)

STEPS, BATCHES = 20, 4
# Relative, for every loss, for logits, and for the gradient of the median step: rounding may move a unit at
# zero to the other side of its ReLU, which changes the gradient of that step by what one unit is of it.
BOUND = 1e-5


class Side(NamedTuple):
    """A device with its step, which is given a state, and its prediction."""

    device: jax.Device
    step: TrainStep
    predict: Predict
    first: TrainState

    def take(self, state: TrainState, *batch: Any) -> tuple[TrainState, StepMetrics]:
        """The step from a state that lies anywhere and stays."""
        state = jax.device_put(jax.tree.map(np.array, state), self.device)
        with jax.default_device(self.device), jax.default_matmul_precision("highest"):
            return jax.block_until_ready(self.step(state, *batch))

    def logits(self, state: TrainState, batch: Batch) -> np.ndarray:
        """Of the students and the ensemble, [K + 1, N]."""
        parts = jax.device_put(jax.tree.map(np.array, (state.parameters, state.statistics)), self.device)
        with jax.default_device(self.device), jax.default_matmul_precision("highest"):
            found = self.predict(parts[0], parts[1], batch)
        return np.concatenate([found.students, found.ensemble[None]])


def settings(case: str, rows: int, smoke: bool) -> tuple[Config, Schema]:
    """The published config of a case on ML-1M, on batches of `rows`, and its schema."""
    shape = {"latest": "ml1m_latest", "ektf": "ml1m", "dagfm": "ml1m_mlp"}.get(case, f"ml1m_{case}")
    size = 3 if case in ("latest", "ektf") else 1
    nested, schema = accelerator.settings((shape, size), smoke, data={"batch_size": rows})
    config = Config.from_dict(nested)
    if case == "dagfm":
        config = replace(config, ensemble=replace(config.ensemble, students={"dagfm": {"name": "dagfm"}}))
    return config, schema


def keep_gradients() -> optax.GradientTransformation:
    """Changes nothing; its state is the newest gradient."""
    return optax.GradientTransformation(
        lambda parameters: jax.tree.map(jax.numpy.zeros_like, parameters), lambda new, *_: (new, new)
    )


def prepare(config: Config, schema: Schema, device: jax.Device, stack: str) -> Side:
    """A model on a device, its copies run as `stack` says; the same initial values everywhere."""
    read = replace(config, ensemble=replace(config.ensemble, stack=stack))
    adam = make_optimizer(read.train.clip_norm)

    def optimizer(rate: ArrayLike) -> optax.GradientTransformation:
        return optax.chain(keep_gradients(), adam(rate))

    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        model = build.make_model(read, schema, jax.random.key(0))
        graphdef, state = init_state(model, optimizer, jax.random.key(1))
    step = make_train_step(graphdef, optimizer, transfer.read(read.transfer), l2=read.embedding.l2)
    return Side(device, step, make_predict(graphdef), state)


def apart(one: Any, other: Any) -> float:
    """|one - other| / |other| of two arrays or trees of them, as one vector."""
    left, right = (
        np.concatenate(
            [np.zeros(0), *(np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree))]
        )
        for tree in (one, other)
    )
    return float(np.linalg.norm(left - right)) / max(float(np.linalg.norm(right)), 1e-30)


def check(case: str, rows: int, smoke: bool) -> dict[str, Any]:
    """One case: the device, copies in one batched product, beside the CPU, copies in turn."""
    config, schema = settings(case, rows, smoke)
    theirs = prepare(config, schema, jax.devices()[0], "vmap")
    cpu = prepare(config, schema, jax.local_devices(backend="cpu")[0], "scan")
    learning_rate = np.float32(config.train.learning_rate)
    state, own = cpu.first, theirs.first
    losses, gradients, statistics, drift, seconds = [], [], [], [], [0.0, 0.0]
    for number in range(STEPS):
        batch = common.random_rows(schema, rows, number % BATCHES), learning_rate
        started = time.perf_counter()
        after, metrics = theirs.take(state, *batch)
        seconds[0] += time.perf_counter() - started
        own, own_metrics = theirs.take(own, *batch)
        started = time.perf_counter()
        state, exact = cpu.take(state, *batch)
        seconds[1] += time.perf_counter() - started
        losses.append(apart(metrics.loss, exact.loss))
        gradients.append(apart(after.optimizer[0], state.optimizer[0]))
        statistics.append(apart(after.statistics, state.statistics))
        drift.append(apart(own_metrics.loss, exact.loss))
    held_out = common.random_rows(schema, 2 * rows, BATCHES)
    logits = [side.logits(state, held_out) for side in (theirs, cpu)]
    evaluated = [evaluate(held_out.labels, found)[-1] for found in logits]
    found = {
        "losses": max(losses),
        "gradients": float(np.median(gradients)),
        "statistics": max(statistics),
        "logits": apart(*logits),
        "logloss": apart(evaluated[0]["logloss"], evaluated[1]["logloss"]),
    }
    return {
        "case": case,
        "rows": rows,
        "passed": all(value <= BOUND for value in found.values()),
        **found,
        "worst_gradients": max(gradients),
        "auc": abs(evaluated[0]["auc"] - evaluated[1]["auc"]),
        "drift": max(drift),
        "last_loss": float(exact.loss),
        "seconds": [round(value, 2) for value in seconds],
    }


def main() -> None:
    """Check the cases of the task."""
    task = json.loads(sys.argv[1])
    for case in task["cases"]:
        try:
            found = check(case, task["rows"], task["smoke"])
        except Exception as error:  # the other cases count all the same
            found = {"case": case, "passed": False, "error": f"{type(error).__name__}: {error}"[:2000]}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
