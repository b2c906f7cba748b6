"""Runs of a sweep one by one and as one, on the default device: benchmarks.accelerator.together JSON

The task is {"smoke": BOOL}. Prints a line for each case and number of runs: with `as_one` 0 they are trained
alone, else so many take a step together (`ektf_jax.training.together`).
"""

import json
import sys
import time

from benchmarks import accelerator, common, together
from ektf_jax.config import Config

# SHAPE, K and the steps of an epoch.
CASES = (("ml1m_lr", 1, 145), ("ml1m", 2, 145), ("ml1m_ecn", 1, 145))
# How many runs there are, and how many of them take a step as one.
SIZES = ((1, 0), (4, 1), (4, 4), (16, 16))
EPOCHS = 4


def main() -> None:
    """Train each case in each way."""
    smoke = json.loads(sys.argv[1])["smoke"]
    for shape, students, steps in CASES[:1] if smoke else CASES:
        case = (shape, students)
        batch_size = Config.from_dict(common.config(*case, small=smoke)).data.batch_size
        steps = 4 if smoke else steps
        with common.random_dataset(common.schema(shape, steps * batch_size, batch_size)) as data:
            changes = {"data.path": str(data), "train.max_epochs": EPOCHS, "train.patience": EPOCHS}
            config = Config.from_dict(common.config(*case, changes, small=smoke))
            for count, as_one in SIZES[1:3] if smoke else SIZES:
                line = {"case": accelerator.case_name(case), "runs": count, "as_one": as_one}
                print(json.dumps(line | measure(config, count, as_one)), flush=True)


def measure(config: Config, count: int, as_one: int) -> dict[str, float]:
    """Seconds until all have their results, and samples per second of their steps, of all runs."""
    began = time.perf_counter()
    rates = together.train(config, count, as_one)
    seconds = time.perf_counter() - began
    # Each rate is of a run's own share of the time, and they have equally many rows.
    return {"seconds": round(seconds, 2), "samples_per_second": count / sum(1 / rate for rate in rates)}


if __name__ == "__main__":
    main()
