"""What whole epochs keep of a training step's speed: results/benchmarks/epoch.json.

    python -m benchmarks.epoch [--cases=ml1m:1:144,criteo:2:60,...] [--repeat=3]

A case is SHAPE:K:STEPS of an epoch. The loop of `experiments.train` runs an epoch of random rows, and every
few steps the same step is timed alone, on the batch at hand. Nothing else compares the two fairly: a machine
drifts within a minute by more than an epoch loses.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging

from benchmarks import common
from ektf_jax.config import Config
from ektf_jax.training import loop
from ektf_jax.training.listeners import Listener
from ektf_jax.training.training import Training

_CASES = flags.DEFINE_list(
    "cases",
    ["ml1m:1:144", "ml1m:3:144", "ml1m:10:60", "ml1m_latest:3:144", "criteo:2:60", "criteo:10:60"],
    "SHAPE:K:STEPS of an epoch, one or more.",
)
_REPEAT = flags.DEFINE_integer("repeat", 3, "Runs per case.")

EVERY, ALONE = 10, 4  # after so many steps of an epoch, so many alone


class TimedStep:
    """A training step that is timed alone too, every `EVERY` calls; the first call compiles it."""

    def __init__(self, step: Callable[..., Any]):
        self.step = step
        self.calls = 0
        self.alone: list[float] = []
        self.not_of_the_epoch = 0.0

    def __call__(self, state: Any, *batch: Any) -> Any:
        self.calls += 1
        if self.calls > 1 and self.calls % EVERY == 0:
            jax.block_until_ready(state)
            for _ in range(ALONE):
                (state, _), seconds = self._timed(state, batch)
                self.alone.append(seconds)
        return self.step(state, *batch)

    def _timed(self, state: Any, batch: Any) -> tuple[Any, float]:
        started = time.perf_counter()
        result = jax.block_until_ready(self.step(state, *batch))
        seconds = time.perf_counter() - started
        self.not_of_the_epoch += seconds
        return result, seconds


class Clock(Listener):
    """Times a run's steps."""

    step: TimedStep

    def begin(self, run: Training) -> None:
        run.train_step = self.step = TimedStep(run.train_step)


def run(shape: str, num_students: int, data: Path) -> dict[str, float]:
    """Seconds per step of an epoch and per step alone, both means, and the share of waiting for rows."""
    config = common.config(shape, num_students, {"data.path": str(data), "train.max_epochs": 1})
    clock = Clock()
    with tempfile.TemporaryDirectory() as workdir:
        result = loop.train(config, Path(workdir), [clock])
    step = clock.step
    rows = (
        result["dataset"]["rows"]["train"] - Config.from_dict(config).data.batch_size
    )  # without the first step's
    training_seconds = rows / result["train_samples_per_second"]
    epoch_step = (training_seconds - step.not_of_the_epoch) / (step.calls - 1)
    return {
        "step": sum(step.alone) / len(step.alone),
        "epoch_step": epoch_step,
        "input_wait": result["input_wait"],
    }


def measure(shape: str, num_students: int, epoch_steps: int) -> dict[str, Any]:
    """One case. `kept` is a step's time alone by its time in an epoch, in the same run."""
    batch_size = Config.from_dict(common.config(shape, num_students)).data.batch_size
    with common.random_dataset(common.schema(shape, epoch_steps * batch_size, 2 * batch_size)) as data:
        runs = [run(shape, num_students, data) for _ in range(_REPEAT.value)]
    return {
        "shape": shape,
        "students": num_students,
        "epoch_steps": epoch_steps,
        "step_seconds": common.spread([found["step"] for found in runs], 4),
        "epoch_step_seconds": common.spread([found["epoch_step"] for found in runs], 4),
        "kept": common.spread([found["step"] / found["epoch_step"] for found in runs], 4),
        "input_wait": common.spread([found["input_wait"] for found in runs], 5),
    }


def main(argv: list[str]) -> None:
    """Measure every case; the file is written anew after each."""
    del argv
    logging.set_verbosity(logging.WARNING)
    versions = common.versions("jax", "jaxlib", "flax", "optax", "grain")
    cases = []
    for case in _CASES.value:
        shape, *numbers = case.split(":")
        cases.append(measure(shape, *map(int, numbers)))
        common.write("epoch", {"versions": versions, "cases": cases})
        print(json.dumps(cases[-1]), flush=True)


if __name__ == "__main__":
    app.run(main)
