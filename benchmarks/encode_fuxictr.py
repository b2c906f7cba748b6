"""FuxiCTR's side of benchmarks/encode.py: python -m benchmarks.encode_fuxictr RAW OUT; needs FuxiCTR only.

Reads Criteo_x4's three files in RAW with the settings of its published configuration, prints its features.
"""

import functools
import sys
from pathlib import Path
from typing import Any

import polars as pl
from fuxictr.datasets.criteo import CustomizedFeatureProcessor
from fuxictr.preprocess import build_dataset

_BASE = {"active": True, "type": "categorical"}
FEATURES = [
    {
        **_BASE,
        "name": [f"I{number}" for number in range(1, 14)],
        "dtype": "float",
        "fill_na": 0,
        "preprocess": "convert_to_bucket",
    },
    {**_BASE, "name": [f"C{number}" for number in range(1, 27)], "dtype": "str", "fill_na": ""},
]


def renamed(scan_csv: Any) -> Any:
    """FuxiCTR calls `dtypes` what polars calls schema_overrides, since 2.0 under this name only."""

    @functools.wraps(scan_csv)
    def call(*args: Any, dtypes: Any, **options: Any) -> Any:
        return scan_csv(*args, schema_overrides=dtypes, **options)

    return call


def main() -> None:
    """Fits the vocabularies on train.csv and writes all three splits as Parquet."""
    raw, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    pl.scan_csv = renamed(pl.scan_csv)
    label = {"name": "Label", "dtype": "float"}
    processor = CustomizedFeatureProcessor(FEATURES, label, dataset_id=out.name, data_root=str(out.parent))
    files = {f"{split}_data": str(raw / f"{split}.csv") for split in ("train", "valid", "test")}
    build_dataset(processor, **files, min_categr_count=10)
    print(processor.feature_map.total_features)


if __name__ == "__main__":
    main()
