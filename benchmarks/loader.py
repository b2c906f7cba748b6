"""Rows per second that the shuffled training loader delivers, onto the device as experiments.train has it.

python -m benchmarks.loader --data=DIR --batch_size=10000
"""

import json
import time
from pathlib import Path

from absl import app, flags

from ektf_jax import sharding
from ektf_jax.data import encoded, loader

_DATA = flags.DEFINE_string("data", None, "An encoded dataset.", required=True)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4096, "B.")
_EPOCHS = flags.DEFINE_integer("epochs", 5, "Epochs to read.")


def main(argv: list[str]) -> None:
    """Read the training split and print a JSON line."""
    del argv
    split = encoded.open_split(Path(_DATA.value), "train")
    gather = sharding.make_gather(sharding.make_mesh())
    batches, _ = loader.training_batches(
        split, _BATCH_SIZE.value, seed=0, epochs=_EPOCHS.value, gather=gather
    )
    started = time.perf_counter()
    rows = sum(len(batch.labels) for batch in batches)
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": rows, "slots": split.ids.shape[1], "rows_per_second": round(rows / seconds)}))


if __name__ == "__main__":
    app.run(main)
