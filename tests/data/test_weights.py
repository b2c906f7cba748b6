"""Weights of rows in an encoded dataset; what weighs by them is tested where it is."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from ektf_jax.data import encoded, tables
from ektf_jax.data.schema import SPLITS, Schema
from ektf_jax.data.spec import spec_from_json, spec_to_json
from ektf_jax.data.tables import FieldSpec, TableSpec
from ektf_jax.errors import InputError

PLAIN = TableSpec("t", "y", (FieldSpec("c"),))
SPEC = dataclasses.replace(PLAIN, weight="w")
ROWS = 40


def table(weights):
    rng = np.random.default_rng(0)
    return pl.DataFrame({"c": rng.integers(0, 5, ROWS), "w": weights, "y": rng.integers(0, 2, ROWS)})


def written(path, weights):
    table(weights).write_csv(path)
    return [path]


def files_of(directory):
    return {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_weights_go_with_their_rows(tmp_path, form):
    weights = np.random.default_rng(1).choice([0, 0.1, 1, 2.5, 1e30, 7e-7], ROWS).astype(np.float32)
    paths = [tmp_path / f"a.{form}"]
    getattr(table(weights), f"write_{form}")(paths[0])
    schema = tables.prepare(SPEC, paths, tmp_path / "out", chunk_bytes=60)
    assert schema.weighted
    drawn = tables.draw_splits(ROWS, 2024)
    for place, split in enumerate(SPLITS):
        found = encoded.open_split(tmp_path / "out", split)
        np.testing.assert_array_equal(found.weights, weights[drawn == place])
        np.testing.assert_array_equal(found.labels, table(weights)["y"].to_numpy()[drawn == place])
    _, splits = encoded.open_dataset(tmp_path / "out")
    written = {name: (rows.ids, rows.labels, rows.weights) for name, rows in splits.items()}
    encoded.write(tmp_path / "again", schema, written, None)
    once, again = (encoded.open_schema(tmp_path / name) for name in ("out", "again"))
    assert once.fingerprint == again.fingerprint
    frames = {name: table(weights).filter(drawn == place) for place, name in enumerate(SPLITS)}
    tables.encode(SPEC, frames, tmp_path / "frames", {})
    assert encoded.open_schema(tmp_path / "frames").arrays == once.arrays


def test_ones_are_a_dataset_without_weights_to_whoever_trains_on_it(tmp_path):
    plain = tables.prepare(PLAIN, written(tmp_path / "a.csv", [1] * ROWS), tmp_path / "plain")
    ones = tables.prepare(SPEC, [tmp_path / "a.csv"], tmp_path / "ones")
    assert not plain.weighted
    mine, theirs = files_of(tmp_path / "ones"), files_of(tmp_path / "plain")
    assert set(mine) - set(theirs) == {f"{split}/weights.npy" for split in SPLITS}
    for name in set(theirs) - {"schema.json"}:
        assert mine[name].read_bytes() == theirs[name].read_bytes()
    for split, rows in encoded.open_dataset(tmp_path / "ones")[1].items():
        assert rows.weights is None
        assert len(rows.labels) == ones.splits[split]


def test_without_weights_nothing_is_written_of_them(tmp_path):
    """So that schema.json, spec_sha256 and fingerprints are those of before there were any."""
    schema = tables.prepare(PLAIN, written(tmp_path / "a.csv", [1] * ROWS), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "schema.json").read_text())
    assert list(document) == ["format", "version", "dataset", "fields", "splits", "source", "arrays"]
    assert set(document["source"]["spec"]) == {"dataset", "label", "fields", "layout", "above", "least"}
    assert set(document["arrays"]) == {
        f"{split}/{kind}.npy" for split in SPLITS for kind in ("ids", "labels")
    }
    assert Schema.from_json(schema.to_json()) == schema
    for spec in (PLAIN, SPEC, dataclasses.replace(SPEC, split="w")):
        assert spec_from_json(spec_to_json(spec)) == spec


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("-1", "a.csv:5: w is '-1'; a weight must be a number from 0 to 1e+30; correct or remove the line"),
        ("nan", "a.csv:5: w is 'nan'; a weight"),
        ("inf", "a.csv:5: w is 'inf'; a weight"),
        ("", "a.csv:5: w is ''; a weight"),
        ("1e31", "a.csv:5: w is '1e31'; a weight"),
    ],
)
def test_what_is_no_weight(tmp_path, bad, said):
    weights = ["1"] * ROWS
    weights[3] = bad
    with pytest.raises(InputError) as error:
        tables.prepare(SPEC, written(tmp_path / "a.csv", weights), tmp_path / "out")
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_split_without_any_weight(tmp_path):
    weights = np.where(tables.draw_splits(ROWS, 2024) == 1, 0, 3)
    with pytest.raises(InputError, match="valid: the weight of each of its 4 rows is 0; give"):
        tables.prepare(SPEC, written(tmp_path / "a.csv", weights), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [-1.0, np.nan, 5.0])
def test_a_changed_weight_is_found(tmp_path, value):
    out = tmp_path / "out"
    tables.prepare(SPEC, written(tmp_path / "a.csv", range(ROWS)), out)
    path = out / "train" / "weights.npy"
    weights = np.load(path)
    weights[2] = value
    np.save(path, weights)
    said = (
        r"weights.npy: its rows have the SHA-256"
        if value > 0
        else "row 2, field weight: value .* is below 0 or"
    )
    with pytest.raises(InputError, match=said):
        encoded.open_dataset(out)
    path.unlink()
    with pytest.raises(InputError, match=r"weights.npy: missing"):
        encoded.open_split(out, "train")
    schema = tables.prepare(SPEC, [tmp_path / "a.csv"], out)  # not up to date
    weights = encoded.open_split(out, "train").weights
    assert weights is not None
    np.testing.assert_array_equal(weights, np.load(path))
    assert schema.weighted


def test_arrays_and_schema_that_disagree(tmp_path):
    tables.prepare(SPEC, written(tmp_path / "a.csv", range(ROWS)), tmp_path / "out")
    schema, splits = encoded.open_dataset(tmp_path / "out")
    with pytest.raises(ValueError, match=r"train weights and dense are \[\], not one float32"):
        encoded.write(tmp_path / "b", schema, {name: rows[:2] for name, rows in splits.items()}, None)
    plain = dataclasses.replace(schema, weighted=False, arrays={})
    encoded.write(
        tmp_path / "b", plain, {name: rows._replace(weights=None) for name, rows in splits.items()}, None
    )
    assert encoded.open_split(tmp_path / "b", "test").weights is None
    with pytest.raises(ValueError, match=r"train weights and dense are .*, not none"):
        encoded.write(tmp_path / "b", plain, splits, None)
