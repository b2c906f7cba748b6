"""What whole epochs keep of a training step's speed: results/benchmarks/epoch.json.

    python -m benchmarks.epoch [--cases=ml1m:1:60,criteo:2:20,...] [--repeat=3]

A case is SHAPE:K:STEPS of an epoch. Steps on one batch in memory, and epochs of experiments.train on random
rows without its evaluations, in child processes that take turns: a machine drifts by more than an epoch
loses, so each turn's epochs are compared with the steps right before them.
"""

import json
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import common

_CASES = flags.DEFINE_list(
    "cases",
    ["ml1m:1:60", "ml1m:3:40", "ml1m:10:20", "ml1m_latest:3:40", "criteo:2:20"],
    "SHAPE:K:STEPS of an epoch, one or more.",
)
_REPEAT = flags.DEFINE_integer("repeat", 3, "Turns per case.")
_STEPS = flags.DEFINE_integer("steps", 15, "Timed steps per turn.")
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Timed epochs per turn.")


def measure(shape: str, num_students: int, epoch_steps: int) -> dict[str, Any]:
    """One case. `kept` is the time of an epoch's steps by the time of the epoch, medians of a turn."""
    batch_size = common.config(shape, num_students)["data"]["batch_size"]
    turns = []
    with common.random_dataset(common.schema(shape, epoch_steps * batch_size, 2 * batch_size)) as data:
        for _ in range(_REPEAT.value):
            steps = common.our_steps(shape, num_students, _STEPS.value)
            turns.append((steps, common.our_epochs(shape, num_students, data, _EPOCHS.value)))
    kept = [
        epoch_steps * np.median(steps["seconds"]) / np.median(epochs["seconds"]) for steps, epochs in turns
    ]
    return {
        "shape": shape,
        "students": num_students,
        "epoch_steps": epoch_steps,
        "step_seconds": common.spread([t for steps, _ in turns for t in steps["seconds"]], 4),
        "epoch_seconds": common.spread([t for _, epochs in turns for t in epochs["seconds"]], 4),
        "kept": common.spread(kept, 4),
        "input_wait": common.spread([epochs["input_wait"] for _, epochs in turns], 5),
    }


def main(argv: list[str]) -> None:
    """Measure every case; the file is written anew after each."""
    del argv
    versions = common.versions("jax", "jaxlib", "flax", "optax", "grain")
    cases = []
    for case in _CASES.value:
        shape, *numbers = case.split(":")
        cases.append(measure(shape, *map(int, numbers)))
        common.write("epoch", {"versions": versions, "cases": cases})
        print(json.dumps(cases[-1]), flush=True)


if __name__ == "__main__":
    app.run(main)
