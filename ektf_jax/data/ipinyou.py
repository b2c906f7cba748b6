"""iPinYou's real-time bidding log, in RecZoo's release iPinYou_x1: train.csv and test.csv.

The authors' runs validate on the test rows (official_runs.csv: valid = test = 4,100,716), and so does this.
"""

from pathlib import Path

from ektf_jax.data import rawfiles, tables
from ektf_jax.data.schema import Schema
from ektf_jax.data.spec import FieldSpec, Table, TableSpec

FIELDS = (
    "weekday",
    "hour",
    "IP",
    "region",
    "city",
    "adexchange",
    "domain",
    "slotid",
    "slotwidth",
    "slotheight",
    "slotvisibility",
    "slotformat",
    "creative",
    "advertiser",
    "useragent",
    "slotprice",
)


def prepare(raw: Path, out: Path) -> Schema:
    """Encodes train.csv and test.csv in `raw` into `out`; see tables.prepare."""
    spec, files, _ = table(raw)
    return tables.prepare(spec, files, out)


def table(raw: Path) -> Table:
    """What the files in `raw` are; InputError where they are not there."""
    ((train, test),) = rawfiles.find(raw, ("train.csv", "test.csv"))
    fields = tuple(FieldSpec(name, min_count=2) for name in FIELDS)
    return Table(TableSpec("ipinyou", "click", fields), {"train": [train], "test": [test]})
