"""Bins between quantiles, beside plain numpy."""

import hashlib
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data import bins, encoded, tables, vocabulary
from ektf_jax.data.encoder import of_dataset, read, write
from ektf_jax.data.spec import FieldSpec, TableSpec, spec_from_json, spec_to_json
from ektf_jax.errors import InputError


def reference(train, count, min_count, values):
    """Local ids of `values` (NaN: missing), 1 on by bin and then OOV, and how many bins there are."""
    rows = np.sort(train[~np.isnan(train)])
    edges = np.array([rows[-(-k * len(rows) // count) - 1] for k in range(1, count)] if len(rows) else [])
    edges = np.unique(edges[edges < rows.max()]) if len(rows) else edges

    def bin_of(x):
        return sum(x > edge for edge in edges)

    held = [0] * (len(edges) + 1)
    for x in rows:
        held[bin_of(x)] += 1
    kept = [at for at, rows in enumerate(held) if rows >= min_count and rows]
    local = {at: rank + 1 for rank, at in enumerate(kept)}
    return [len(kept) + 1 if np.isnan(x) else local.get(bin_of(x), len(kept) + 1) for x in values], len(kept)


NUMBERS = st.one_of(
    st.none(),
    st.integers(-3, 3).map(float),
    st.floats(-1e12, 1e12),
    st.sampled_from([-0.0, 0.1, 2**53]),
)


@settings(deadline=None, max_examples=60)
@given(
    train=st.lists(NUMBERS, min_size=1, max_size=40),
    test=st.lists(NUMBERS, min_size=1, max_size=10),
    count=st.integers(2, 12),
    min_count=st.integers(1, 4),
    fill=st.sampled_from([None, "0", "2.5"]),
    at_a_time=st.sampled_from([3, 1000]),
)
def test_against_numpy(tmp_path_factory, train, test, count, min_count, fill, at_a_time):
    """However the rows come in chunks, and the counts of their values in shares; and so for rows to score."""
    directory = tmp_path_factory.mktemp("case")
    field = FieldSpec("x", "numeric", min_count, fill=fill, bins=f"quantile:{count}")
    spec = TableSpec("t", "y", (FieldSpec("first"), field))
    frames = {
        name: pl.DataFrame({"y": 1, "first": "a", "x": pl.Series(rows, dtype=pl.Float64)})
        for name, rows in {"train": train, "valid": train, "test": test}.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_FRAME_ROWS", at_a_time)
        patch.setattr(vocabulary, "_MERGED", at_a_time)
        schema = tables.encode(spec, frames, directory / "out", {"spec": spec_to_json(spec)})
    missing = np.nan if fill is None else float(fill)
    train, test = (np.array([missing if x is None else x for x in rows]) for rows in (train, test))
    offset = schema.fields[1].offset
    for name, rows in (("train", train), ("test", test)):
        expected, kept = reference(train, count, min_count, rows)
        assert (encoded.open_split(directory / "out", name).ids[:, 1] - offset).tolist() == expected
        assert schema.fields[1].vocab_size == kept + 2
    found = of_dataset(directory / "out").frame(frames["test"]).ids
    np.testing.assert_array_equal(found, encoded.open_split(directory / "out", "test").ids)


def test_by_hand():
    found = pl.DataFrame({"value": [3.0, 1.0, 2.5, 1e9, -2.0], "count": [4, 1, 2, 1, 2]})
    words = bins.between_quantiles(found, 4, 1)
    assert words.to_list() == ["(-inf, 1]", "(1, 2.5]", "(2.5, 3]", "(3, inf]"]
    placed = bins.place(pl.Series(["1.0", "-1e300", None, "1e300", "2.5", "2.6"]), words).to_list()
    assert placed == [words[0], words[0], None, words[3], words[1], words[2]]


def test_bins_without_ties_hold_equally_many_rows():
    x = np.random.default_rng(0).normal(size=1003)
    words = bins.between_quantiles(pl.DataFrame({"value": x, "count": 1}), 10, 1)
    held = bins.place(pl.Series(x).cast(pl.String), words).value_counts()["count"]
    assert sorted(held) == [100] * 7 + [101] * 3


def test_equal_edges_are_one():
    def words(value, count):
        return bins.between_quantiles(pl.DataFrame({"value": value, "count": count}), 10, 1).to_list()

    assert words([0.0, 5.0, 9.0], [95, 1, 4]) == ["(-inf, 0]", "(0, inf]"]
    assert words([9.0, 0.0], [95, 5]) == ["(-inf, inf]"]  # no edge is the largest number
    assert words([7.0], [3]) == ["(-inf, inf]"]


def test_what_is_not_in_a_kept_bin_is_oov(tmp_path):
    """A rare bin is not its neighbour's; outer ones that are kept take all that lies beyond."""
    field = FieldSpec("x", "numeric", 3, missing=("", "-1"), bins="quantile:2")
    rows = [1, 1, 1, 4, 5, -1]
    spec = TableSpec("t", "y", (field,))
    frame = pl.DataFrame({"x": rows, "y": 1})
    tables.encode(
        spec, dict.fromkeys(("train", "valid", "test"), frame), tmp_path / "out", {"spec": spec_to_json(spec)}
    )
    encoder = of_dataset(tmp_path / "out")
    assert encoder.words["value"].to_list() == ["(-inf, 1]"]
    found = encoder.frame({"x": [-7, 1, 2, 99, -1, None]})
    assert found.ids[:, 0].tolist() == [1, 1, 2, 2, 2, 2]
    assert found.unseen == {"x": 2}
    write(encoder, tmp_path)
    np.testing.assert_array_equal(read(tmp_path).frame(frame).ids, encoder.frame(frame).ids)


def test_a_narrow_float_is_in_the_bin_of_its_text(tmp_path):
    """0.1 as 32 bits is a little more than as 64; both are the number 0.1."""
    spec = TableSpec("t", "y", (FieldSpec("x", "numeric", bins="quantile:2"),))
    frame = pl.DataFrame({"x": pl.Series([0.1, 0.1, 0.3, 0.4], dtype=pl.Float32), "y": 1})
    tables.encode(
        spec, dict.fromkeys(("train", "valid", "test"), frame), tmp_path / "out", {"spec": spec_to_json(spec)}
    )
    encoder = of_dataset(tmp_path / "out")
    assert encoder.words["value"].to_list() == ["(-inf, 0.1]", "(0.1, inf]"]
    for rows in ([0.1, 0.3], ["0.1", "0.3"]):
        assert encoder.frame({"x": rows}).ids[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    "wrong", ["quantile:0", "quantile:1", "quantile:x", "quantile:65537", "quantile", "10", ""]
)
def test_refuses_bins(wrong):
    with pytest.raises(
        InputError, match=f"^field x: bins is '{wrong}'; it must be quantile:N with a whole number"
    ):
        FieldSpec("x", "numeric", bins=wrong)


@pytest.mark.parametrize("kind", ["categorical", "multi"])
def test_refuses_bins_of_what_is_no_number(kind):
    with pytest.raises(
        InputError, match=r"^field x: bins is 'quantile:4'; it must be left to numeric fields"
    ):
        FieldSpec("x", kind, bins="quantile:4")


def test_refuses_two_kinds_of_bins_and_values_that_are_no_numbers(tmp_path):
    with pytest.raises(
        InputError, match="paper_buckets is True; it must be left to numeric fields without bins"
    ):
        FieldSpec("x", "numeric", paper_buckets=True, bins="quantile:4")
    spec = TableSpec("t", "y", (FieldSpec("x", "numeric", bins="quantile:4"),))
    frame = pl.DataFrame({"x": ["1", "dear"], "y": 1})
    with pytest.raises(InputError, match="train: row 2: x is 'dear'; it must be a number"):
        tables.encode(spec, dict.fromkeys(("train", "valid", "test"), frame), tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_a_spec_without_what_came_later_is_the_same_text():
    """So that datasets that are prepared stay up to date."""
    fields = (
        FieldSpec("a"),
        FieldSpec("b", "numeric", paper_buckets=True),
        FieldSpec("c", "multi", max_len=2),
    )
    text = json.dumps(spec_to_json(TableSpec("t", "y", fields)), sort_keys=True, allow_nan=False)
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "aa1bda8059e1e7c144c92439ced32997b8a28bad1af0e9d19c5a8605dbc3a545"
    )
    many, filled = FieldSpec("c", "multi", max_len=2, pooling="sum"), FieldSpec("d", fill="")
    attended = FieldSpec("e", "multi", max_len=2, pooling="attention", target="d")
    spec = TableSpec("t", "y", (FieldSpec("b", "numeric", bins="quantile:7"), many, filled, attended))
    written = spec_to_json(spec)["fields"]
    assert (written[0]["bins"], written[1]["pooling"]) == ("quantile:7", "sum")
    assert not {"pooling", "target"} & set(written[0]) | {"bins", "target"} & set(written[1])
    assert written[3]["target"] == "d"
    assert spec_from_json(spec_to_json(spec)) == spec
