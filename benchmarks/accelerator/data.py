"""Made-up rows of MovieLens-1M's size and fields: python -m benchmarks.accelerator.data DIR [small]

Needs nothing to read or to download, and takes seconds; its labels follow planted effects, so that AUC means
something. It says nothing of MovieLens.
"""

import sys
from pathlib import Path

from benchmarks import common
from ektf_jax.data import synthetic

ROWS, SMALL_ROWS = 739_012, 20_000  # of all splits; MovieLens-1M has 739,012


def prepare(out: Path, rows: int) -> None:
    """Write the encoded dataset."""
    fields = common.schema("ml1m").fields
    spec = synthetic.SyntheticSpec(
        rows=rows,
        values=tuple(field.vocab_size - 2 for field in fields),
        max_lens=tuple(field.max_len for field in fields),
        zipf=0.7,
        second_order=1.5,
        preference=1.0,
        click_rate=0.58,
    )
    synthetic.prepare(spec, out)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), SMALL_ROWS if sys.argv[2:] == ["small"] else ROWS)
