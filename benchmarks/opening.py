"""What the check of a dataset costs at a run's start: every value and the digests, in one pass.

python -m benchmarks.opening --rows=10000000, written to results/benchmarks/opening.json
"""

import json
import time

from absl import app, flags

from benchmarks import common
from ektf_jax.data import encoded

_SHAPE = flags.DEFINE_enum("shape", "criteo", common.SHAPES, "Which dataset's fields.")
_ROWS = flags.DEFINE_integer("rows", 10_000_000, "Training rows, random; 160 bytes each on disk for Criteo.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "How often it is opened.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Open the dataset a few times."""
    del argv
    seconds = []
    with common.random_dataset(common.schema(_SHAPE.value, _ROWS.value)) as data:
        for _ in range(_REPEAT.value):
            started = time.perf_counter()
            encoded.open_dataset(data)
            seconds.append(time.perf_counter() - started)
        size = sum(file.stat().st_size for file in data.rglob("*.npy"))
    found = {"shape": _SHAPE.value, "rows": _ROWS.value, "mib": round(size / 2**20)}
    found |= {"seconds": common.spread(seconds), "versions": common.versions("numpy")}
    common.write("opening", found)
    print(json.dumps(found))


if __name__ == "__main__":
    app.run(main)
