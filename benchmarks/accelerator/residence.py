"""Epochs, rows on the host and on the default device: python -m benchmarks.accelerator.residence JSON

The task is {"smoke": BOOL}. Prints a line for each case and place of the rows, as benchmarks/residence.py
measures them.
"""

import json
import sys
from typing import Any

from benchmarks import accelerator, common, residence
from ektf_jax.config import Config

# SHAPE, K and the steps of an epoch.
CASES = (("ml1m", 10, 180), ("ml1m_lr", 1, 180))
EPOCHS = 3  # the first has the compilations, which its rate leaves out


def settings(case: accelerator.Case, smoke: bool, data: str, places: dict[str, Any]) -> dict[str, Any]:
    """The config of one run."""
    changes = {"data.path": data, "train.max_epochs": EPOCHS, "train.patience": EPOCHS}
    return common.config(*case, changes | places, small=smoke)


def main() -> None:
    """Train each case once for each place."""
    smoke = json.loads(sys.argv[1])["smoke"]
    for shape, students, steps in CASES[1:] if smoke else CASES:
        case = (shape, students)
        batch_size = Config.from_dict(common.config(*case, small=smoke)).data.batch_size
        steps = 4 if smoke else steps
        with common.random_dataset(common.schema(shape, steps * batch_size, batch_size)) as data:
            for name, places in residence.PLACES.items():
                found = residence.run(settings(case, smoke, str(data), places))
                line = {"case": accelerator.case_name(case), "rows": name, **found}
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
