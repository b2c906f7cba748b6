"""What an encoded dataset holds: `ektf describe --data=DIR --out=DIR` (docs/datasets.md)."""

import time

from absl import flags
from tqdm import tqdm

from ektf_jax.cli import shell
from ektf_jax.data import describe, encoded
from ektf_jax.report import description

_DATA = flags.DEFINE_string("data", None, "An encoded dataset.", required=True)
_OUT = flags.DEFINE_string("out", None, "Where description.html and description.md go.", required=True)
_VALUES = flags.DEFINE_integer("values", 10, "How many values of each field are shown.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Counts --data, writes the pages and prints the tables of splits and fields."""
    del argv
    start = time.perf_counter()
    data, out = shell.path(_DATA), shell.path(_OUT)
    rows = sum(encoded.open_schema(data).splits.values())
    with tqdm(total=rows, unit="row", unit_scale=True, leave=False, disable=None) as bar:
        found = describe.describe(data, _VALUES.value, progress=bar.update)
    counted = time.perf_counter() - start
    print(description.write(found, out))
    print(f"\n{out / 'description.html'}: written; {rows / counted:,.0f} rows/s")
