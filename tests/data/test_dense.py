"""Fields that are numbers, beside plain numpy."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data import encoded, tables, vocabulary
from ektf_jax.data.encoder import of_dataset, read, write
from ektf_jax.data.schema import SPLITS, Schema
from ektf_jax.data.spec import FieldSpec, TableSpec, spec_from_json, spec_to_json
from ektf_jax.errors import InputError

NUMBERS = st.one_of(
    st.none(),
    st.integers(0, 5).map(float),
    st.integers(-9, 10**7).map(lambda x: x / 16),
    st.sampled_from([-0.0, 0.1]),
)


def encode(directory, fields, frames):
    spec = TableSpec("t", "y", fields)
    return tables.encode(spec, frames, directory / "out", {"spec": spec_to_json(spec)})


def reference(train, rows, transform, fill):
    """Numbers of `rows` and which of them are missing, in float64."""
    fill = np.nan if fill is None else float(fill)
    train, rows = (np.array([fill if x is None else x for x in one], np.float64) for one in (train, rows))
    if transform:
        train, rows = np.log1p(train), np.log1p(rows)
    known = train[~np.isnan(train)]
    mean, deviation = (known.mean(), known.std()) if len(known) else (0, 1)
    if len(np.unique(known)) < 2:
        deviation = 1
    missing = np.isnan(rows)
    return np.where(missing, 1, (rows - mean) / deviation), missing


@settings(deadline=None, max_examples=60)
@given(
    train=st.lists(NUMBERS, min_size=1, max_size=30),
    test=st.lists(NUMBERS, min_size=1, max_size=10),
    transform=st.sampled_from([None, "log1p"]),
    fill=st.sampled_from([None, "0", "2.5"]),
    at_a_time=st.sampled_from([3, 1000]),
)
def test_against_numpy(tmp_path_factory, train, test, transform, fill, at_a_time):
    """However the rows come in chunks, and the counts of their values in shares; and so for rows to score."""
    directory = tmp_path_factory.mktemp("case")
    field = FieldSpec("x", "dense", 9, fill=fill, transform=transform)
    frames = {
        name: pl.DataFrame({"y": 1, "a": "v", "x": pl.Series(rows, dtype=pl.Float64)})
        for name, rows in {"train": train, "valid": train, "test": test}.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_FRAME_ROWS", at_a_time)
        patch.setattr(vocabulary, "_MERGED", at_a_time)
        schema = encode(directory, (FieldSpec("a"), field), frames)
    x = schema.fields[1]
    assert (x.vocab_size, schema.num_dense, schema.fields[0].scale) == (3, 1, None)
    for name, rows in (("train", train), ("test", test)):
        numbers, missing = reference(train, rows, transform, fill)
        split = encoded.open_split(directory / "out", name)
        assert split.dense is not None
        assert split.dense.dtype == np.float32
        # Numbers that differ in their last bits alone have a deviation of rounding.
        np.testing.assert_allclose(
            split.dense[:, 0], numbers, rtol=1e-5, atol=1e-5 if x.scale[1] > 1e-9 else 9
        )
        assert split.ids[:, 1].tolist() == [x.oov if one else x.offset + 1 for one in missing]
    encoder = of_dataset(directory / "out")
    found = encoder.frame(frames["test"])
    np.testing.assert_array_equal(found.ids, split.ids)
    np.testing.assert_array_equal(found.dense, split.dense)
    assert found.unseen == {"a": 0, "x": 0}


FIELDS = (
    FieldSpec("n", "dense"),
    FieldSpec("c"),
    FieldSpec("p", "dense", missing=("", "-1"), transform="log1p"),
)
FRAME = pl.DataFrame({"y": [0, 1, 1], "n": [1, 3, 2], "c": ["a", "b", "a"], "p": [0, 100, -1]})
FRAMES = dict.fromkeys(SPLITS, FRAME)


def test_by_hand_and_as_it_is_written(tmp_path):
    schema = encode(tmp_path, FIELDS, FRAMES)
    split = encoded.open_split(tmp_path / "out", "train")
    third = np.sqrt(1.5)
    np.testing.assert_allclose(split.dense, [[-third, -1], [third, 1], [0, 1]], rtol=1e-6)
    assert split.ids.tolist() == [[1, 4, 8], [1, 5, 8], [1, 4, 9]]
    assert encoded.open_schema(tmp_path / "out") == schema
    assert set(schema.files) - {f"{split}/{kind}.npy" for split in SPLITS for kind in ("ids", "labels")} == {
        f"{split}/dense.npy" for split in SPLITS
    }
    encoder = of_dataset(tmp_path / "out")
    write(encoder, tmp_path)
    again = read(tmp_path)
    assert (again.fields, again.spec) == (encoder.fields, encoder.spec)
    np.testing.assert_array_equal(again.frame(FRAME).dense, split.dense)


def test_a_dataset_of_arrays_and_weights_beside_them(tmp_path):
    schema = dataclasses.replace(encode(tmp_path, FIELDS, FRAMES), weighted=True)
    split = encoded.open_split(tmp_path / "out", "train")
    weighted = split._replace(weights=np.array([1, 2, 3], np.float32))
    encoded.write(tmp_path / "copy", schema, dict.fromkeys(SPLITS, weighted), None)
    found = encoded.open_split(tmp_path / "copy", "test")
    np.testing.assert_array_equal(found.dense, split.dense)
    np.testing.assert_array_equal(found.weights, [1, 2, 3])
    with pytest.raises(ValueError, match="weights and dense are"):
        encoded.write(tmp_path / "bad", schema, dict.fromkeys(SPLITS, split), None)


def test_a_number_that_is_one_in_training_is_0(tmp_path):
    rows = [0.1] * 7
    encode(tmp_path, (FieldSpec("x", "dense"),), dict.fromkeys(SPLITS, pl.DataFrame({"x": rows, "y": 1})))
    assert not encoded.open_split(tmp_path / "out", "train").dense.any()
    far = of_dataset(tmp_path / "out").frame({"x": [1.1]}).dense
    np.testing.assert_allclose(far, [[1]], rtol=1e-6)


def test_numbers_stay_finite(tmp_path):
    frame = pl.DataFrame({"x": [0.0, 5e-324, 1e-300], "y": 1})
    encode(tmp_path, (FieldSpec("x", "dense"),), dict.fromkeys(SPLITS, frame))
    found = of_dataset(tmp_path / "out").frame({"x": [1e30, -9e18]}).dense
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "numeric", "transform": "log1p"}, "transform is 'log1p'; it must be left to dense fields"),
        ({"kind": "dense", "transform": "log"}, "transform is 'log'; it must be log1p"),
        ({"kind": "dense", "fill": "none"}, "fill is 'none'; it must be a number"),
        ({"kind": "dense", "fill": "-1", "transform": "log1p"}, "fill is '-1'; it must be a number"),
        ({"kind": "dense", "bins": "quantile:4"}, "bins is 'quantile:4'; it must be left to numeric fields"),
        ({"kind": "dense", "max_len": 2}, "max_len is 2"),
        ({"kind": "dense", "pooling": "sum"}, "pooling is 'sum'"),
        ({"kind": "dense", "paper_buckets": True}, "paper_buckets is True"),
    ],
)
def test_refuses_fields(options, said):
    with pytest.raises(InputError) as error:
        FieldSpec("x", **options)
    assert str(error.value).startswith(f"field x: {said}")


@pytest.mark.parametrize(
    ("value", "transform", "said"),
    [
        ("dear", None, "it must be a number from -9.22337e+18 to 1e+30"),
        ("1e31", None, "it must be a number from -9.22337e+18 to 1e+30"),
        ("inf", None, "it must be a number"),
        ("-1", "log1p", "it must be a number above -1 and at most 1e+30"),
    ],
)
def test_refuses_values(tmp_path, value, transform, said):
    frame = pl.DataFrame({"x": ["1", value], "y": 1})
    with pytest.raises(InputError) as error:
        encode(tmp_path, (FieldSpec("x", "dense", transform=transform),), dict.fromkeys(SPLITS, frame))
    assert str(error.value).startswith(f"train: row 2: x is '{value}'; {said}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scale", [[1.0], [0.0, 0.0], [0.0, -1.0], ["a", 1.0], "x"])
def test_a_damaged_scale_is_named(tmp_path, scale):
    document = json.loads(encode(tmp_path, FIELDS, FRAMES).to_json())
    document["fields"][0]["scale"] = scale
    with pytest.raises(InputError, match=r"fields\[0\] \(n\): scale is"):
        Schema.from_json(json.dumps(document))


def test_damaged_numbers_are_named(tmp_path):
    encode(tmp_path, FIELDS, FRAMES)
    path = tmp_path / "out/valid/dense.npy"
    numbers = np.load(path)
    np.save(path, numbers + 1)
    with pytest.raises(InputError, match=r"valid/dense\.npy: its rows have the SHA-256"):
        encoded.open_split(tmp_path / "out", "valid")
    numbers[2, 1] = np.nan
    np.save(path, numbers)
    with pytest.raises(InputError, match=r"dense\.npy: row 2, dense field 1: value nan is not finite"):
        encoded.open_split(tmp_path / "out", "valid")
    path.unlink()
    with pytest.raises(InputError, match=r"dense\.npy: missing"):
        encoded.open_split(tmp_path / "out", "valid")


def test_the_spec_is_read_as_it_was_written():
    spec = TableSpec("t", "y", FIELDS)
    assert spec_from_json(spec_to_json(spec)) == spec
    assert "transform" not in spec_to_json(spec)["fields"][1]
