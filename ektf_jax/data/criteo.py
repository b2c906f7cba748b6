"""Criteo's display advertising challenge: Kaggle's train.txt, or RecZoo's Criteo_x4 with its ready splits.

The paper's Sections 4.1.1 and 4.1.2. Table 1's vocabularies are those of FuxiCTR, which keeps neither a
missing value nor, of a numeric field, the bucket 0 that it fills it with: both are OOV.
"""

from pathlib import Path

from ektf_jax.data import rawfiles, tables
from ektf_jax.data.rawfiles import Layout
from ektf_jax.data.schema import Schema
from ektf_jax.data.spec import FieldSpec, Table, TableSpec

NUMERIC = tuple(f"I{number}" for number in range(1, 14))
CATEGORICAL = tuple(f"C{number}" for number in range(1, 27))
COLUMNS = ("Label", *NUMERIC, *CATEGORICAL)


def prepare(raw: Path, out: Path, *, split_seed: int = 2024, paper_buckets: bool = False) -> Schema:
    """Encodes train.csv, valid.csv and test.csv in `raw`, or else train.txt, into `out`; see tables.prepare.

    paper_buckets: numbers up to 2 are bucket 1, as the paper writes, and so are missing ones.
    """
    spec, files, _ = table(raw, paper_buckets=paper_buckets)
    return tables.prepare(spec, files, out, split_seed=split_seed)


def table(raw: Path, *, paper_buckets: bool = False) -> Table:
    """What the files in `raw` are; InputError where they are not there."""
    fill, missing = ("1", ("",)) if paper_buckets else (None, ("", "0"))
    fields = (
        *(FieldSpec(name, "numeric", 10, missing, fill, paper_buckets=paper_buckets) for name in NUMERIC),
        *(FieldSpec(name, min_count=10) for name in CATEGORICAL),
    )
    ready, kaggle = rawfiles.find(raw, ("train.csv", "valid.csv", "test.csv"), ("train.txt",))
    if ready:
        files = dict(zip(("train", "valid", "test"), ([path] for path in ready), strict=True))
        return Table(TableSpec("criteo", "Label", fields), files)
    return Table(TableSpec("criteo", "Label", fields, Layout("\t", COLUMNS, quoting=False)), kaggle)
