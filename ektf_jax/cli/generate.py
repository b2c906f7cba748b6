"""Writes raw files of synthetic data: `ektf generate --dataset=criteo --rows=N --out=DIR`."""

import time

from absl import flags
from tqdm import tqdm

from ektf_jax.cli import shell
from ektf_jax.data import generators

_DATASET = flags.DEFINE_string(
    "dataset", None, f"Which dataset's files: {', '.join(generators.DATASETS)}.", required=True
)
_ROWS = flags.DEFINE_integer("rows", None, "Rows to make, over all splits.", required=True)
_OUT = flags.DEFINE_string("out", None, "The directory to write the raw files to.", required=True)
_SEED = flags.DEFINE_integer("seed", 0, "Another seed makes other data.")


def main(argv: list[str]) -> None:
    """Writes --dataset's files and prints what they are."""
    del argv
    start = time.perf_counter()
    dataset, rows, out = _DATASET.value, _ROWS.value, shell.path(_OUT)
    with tqdm(total=rows, unit="rows", unit_scale=True, disable=None) as bar:
        paths = generators.write(dataset, out, rows, _SEED.value, progress=bar.update)
    print(generators.notice(dataset, out, rows, _SEED.value))
    for path in paths:
        print(f"{path}: {path.stat().st_size:,} bytes")
    print(f"{rows / (time.perf_counter() - start):,.0f} rows/s")
