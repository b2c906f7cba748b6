"""What numeric fields make of `missing` and `fill`: values that the file holds, not buckets."""

import polars as pl
import pytest

from ektf_jax.data import encoded, tables
from ektf_jax.data.tables import FieldSpec, TableSpec
from ektf_jax.errors import InputError


def encode(folder, numbers, **options):
    """The words of a numeric field, and each row's word; None where it is OOV."""
    text = "y,n\n" + "".join(f"1,{number}\n" for number in numbers)
    (folder / "a.csv").write_text(text, encoding="utf-8")
    (folder / "b.csv").write_text(text, encoding="utf-8")
    spec = TableSpec("t", "y", (FieldSpec("n", "numeric", **options),))
    tables.prepare(spec, {"train": [folder / "a.csv"], "test": [folder / "b.csv"]}, folder / "out")
    words = pl.read_parquet(folder / "out/vocabulary.parquet")["value"].to_list()
    ids = encoded.open_split(folder / "out", "train").ids[:, 0]
    return words, [dict(enumerate(words, 1)).get(one) for one in ids]


def test_missing_is_a_value_not_a_bucket(tmp_path):
    # 0.5 and 2.5 are in bucket 0, 1.5 and 3 in bucket 1.
    _, found = encode(tmp_path, ["0", "0.5", "2.5", "1", "1.5", "3", "7"], missing=("0", "1"))
    assert found == [None, "0", "0", None, "1", "1", "3"]


@pytest.mark.parametrize("mark", ["-999", "-999.0", "-9.99e2"])
def test_missing_is_a_number_however_it_is_written(tmp_path, mark):
    _, found = encode(tmp_path, ["-999", "-999.0", "-999.00", "5", "-998"], missing=(mark,))
    assert found == [None, None, None, "2", "-998"]


def test_missing_texts_that_are_no_numbers(tmp_path):
    _, found = encode(tmp_path, ["NA", "", "nan", "5"], missing=("NA", "", "nan"))
    assert found == [None, None, None, "2"]


def test_fill_is_a_value_not_a_bucket(tmp_path):
    words, found = encode(tmp_path, ["", "100", "21", ""], fill="100")
    assert found == ["21", "21", "9", "21"]  # ln(100)^2 = 21.2, ln(21)^2 = 9.3
    assert words == ["21", "9"]
    _, found = encode(tmp_path, ["", "0.3"], fill="-1.7")
    assert found == ["-1", "0"]
    _, found = encode(tmp_path, ["", "5"], fill="-3", paper_buckets=True)
    assert found == ["1", "2"]


@pytest.mark.parametrize("fill", ["", "NA", "nan", "inf", "-1e300", "1,5", "1_000"])
def test_fill_must_be_a_number(fill):
    with pytest.raises(InputError, match=r"field n: fill is .*; it must be a number"):
        FieldSpec("n", "numeric", fill=fill)
    FieldSpec("c", fill=fill)


@pytest.mark.parametrize("above", [float("nan"), float("inf")])
def test_a_threshold_is_finite(above):
    with pytest.raises(InputError, match="above is"):
        TableSpec("t", "y", (FieldSpec("n"),), above=above)
