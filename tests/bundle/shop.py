"""A small table of raw rows, and a run on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from configs import quickstart
from ektf_jax.bundle import Bundle, load
from ektf_jax.bundle.export import export
from ektf_jax.bundle.score import score
from ektf_jax.data import tables
from ektf_jax.data.schema import Schema
from ektf_jax.data.spec import FieldSpec, TableSpec, spec_to_json
from ektf_jax.runs import load_run
from ektf_jax.training import loop

SPEC = TableSpec(
    "shop",
    "click",
    (
        FieldSpec("user"),
        FieldSpec("price", "numeric", fill="0"),
        FieldSpec("tags", "multi", separator="|", max_len=2),
        FieldSpec("city", missing=("", "?")),
    ),
)


def rows(count: int, seed: int) -> pl.DataFrame:
    """Raw rows whose clicks follow user and city; of other seeds some values are new."""
    rng = np.random.default_rng(seed)
    user, city = rng.integers(0, 30 + seed, count), rng.integers(0, 6, count)
    tags = [["a", "b", "c", f"new{seed}"][: 1 + n] for n in rng.integers(0, 4, count)]
    odds = (user % 3 - 1) + (city % 2) - 0.5
    return pl.DataFrame(
        {
            "click": (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(int),
            "user": user,
            "price": np.where(rng.random(count) < 0.1, np.nan, rng.exponential(20, count).round(2)),
            "tags": ["|".join(one) for one in tags],
            "city": [["x", "y", "z", "?", "", "w"][c] for c in city],
            "session": rng.integers(0, 1000, count),
        }
    ).with_columns(pl.col("price").fill_nan(None))


def train(directory: Path) -> Path:
    """A finished run of three students over that table, its dataset beside it in data/."""
    prepare(directory / "data")
    loop.train(config(directory / "data"), directory / "run")
    return directory / "run"


def prepare(
    data: Path,
    train: pl.DataFrame | None = None,
    *,
    spec: TableSpec = SPEC,
    rows_of: Callable[[int, int], pl.DataFrame] = rows,
) -> Schema:
    """Encode that table, or one with other rows to train on, or another."""
    train = rows_of(900, 0) if train is None else train
    frames = {"train": train, "valid": rows_of(300, 0), "test": rows_of(300, 1)}
    return tables.encode(spec, frames, data, {"spec": spec_to_json(spec)})


def bundle_of(run: Path, raw: pl.DataFrame, directory: Path) -> Bundle:
    """Export a run. Its bundle, and a file that this scores, have the run's probabilities of raw rows."""
    ours = load_run(run)
    export(run, directory / "bundle")
    bundle = load(directory / "bundle", runtime="jax")
    assert bundle.encoder.fields == ours.schema.fields
    expected, predicted = ours.predict(raw), bundle.predict(raw)
    for name in ("ensemble", "students"):
        np.testing.assert_allclose(predicted[name], expected[name], atol=1e-6)
    raw.write_csv(directory / "rows.csv")
    score(bundle, [directory / "rows.csv"], directory / "scores.csv")
    scored = pl.read_csv(directory / "scores.csv")
    np.testing.assert_allclose(scored["p_ensemble"], expected["ensemble"], atol=1e-6)
    return bundle


def config(data: Path) -> dict[str, Any]:
    """Three students over it."""
    config = quickstart.get_config().to_dict()
    # 900 rows to train on have no short batch of 60: a step compiles once.
    config["data"] |= {"path": str(data), "batch_size": 60}
    config["embedding"]["dim"] = 4
    config["ensemble"]["num_students"] = 3
    config["ensemble"]["students"] = {
        "mlp": {"name": "mlp", "hidden_units": (8,)},
        "qnn": {"name": "qnn", "num_layers": 1},
    }
    config["train"] |= {"max_epochs": 2, "patience": 100}
    return config


DEEP: dict[str, Any] = {"deep": {"name": "deepfm", "hidden_units": (8,), "wide": "ids"}}


def one_epoch(
    data: Path, students: int, sharing: str | float = "shared", kinds: dict[str, Any] = DEEP
) -> dict[str, Any]:
    """So many students of some kinds over it, for an epoch."""
    found = config(data)
    found["embedding"]["sharing"] = sharing
    found["ensemble"] |= {"num_students": students, "students": kinds}
    found["train"]["max_epochs"] = 1
    return found
