"""Types of Parquet columns: one value has one text in all files, and structure is kept."""

import dataclasses
import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data import tables
from ektf_jax.data.tables import FieldSpec, TableSpec
from ektf_jax.errors import InputError

MULTI = FieldSpec("c", "multi", max_len=3, separator="^")


def words(out):
    return pl.read_parquet(out / "vocabulary.parquet")["value"].to_list()


def prepare(folder, field, *columns, name="c"):
    """The values of a column's field that is in as many files."""
    files = []
    for number, column in enumerate(columns):
        path = folder / f"{number}.parquet"
        pl.DataFrame({"y": [1] * len(column), name: column}).write_parquet(path)
        files.append(path)
    spec = TableSpec("types", "y", (field,))
    tables.prepare(spec, {"train": files, "test": files[:1]}, folder / "out")
    return words(folder / "out")


def series(values, dtype):
    return pl.Series(values, dtype=dtype)


NOON = dt.datetime(2024, 7, 1, 12, 0, 0, 120_000)
DAY = dt.datetime(2024, 7, 1)
UTC, VIENNA = ZoneInfo("UTC"), ZoneInfo("Europe/Vienna")
AGREE = {
    "int and float": ([5, 7], [5.0, 7.0], ["5", "7"]),
    "int and float with a part": ([5, 7], [5.0, 7.5], ["5", "7", "7.5"]),
    "float with nulls and NaN": ([5, 5], [5.0, None, float("nan")], ["5"]),
    "negative zero": ([0, 0], [-0.0, 0.0], ["0"]),
    "widths of integers": (series([1, 200], pl.UInt8), series([1, 200], pl.Int128), ["1", "200"]),
    "large integers": ([2**53 + 1, 2**62], [float(2**62)], [str(2**62), str(2**53 + 1)]),
    "128 bits": (series([2**80], pl.Int128), [float(2**80)], [str(2**80)]),
    "32-bit float": (series([0.1, 16777216.0, 3e10], pl.Float32), [0.1, 16777216.0], None),
    "float of a 32-bit float": (series([0.1, 9.99e-6], pl.Float32), [float(np.float32(0.1)), 9.99e-6], None),
    "large 32-bit float": (series([3e10], pl.Float32), [int(np.float32(3e10))], ["30000001024"]),
    "scales": (
        series([Decimal("5.00"), Decimal("5.50")], pl.Decimal(10, 2)),
        series([Decimal("5.0000"), Decimal("5.5000")], pl.Decimal(20, 4)),
        ["5", "5.5"],
    ),
    "decimal and int": (series([Decimal("500")], pl.Decimal(10, 0)), [500], ["500"]),
    "decimal and float": (
        series([Decimal("0.0000001200"), Decimal("-2.50")], pl.Decimal(20, 10)),
        [1.2e-7, -2.5],
        ["-2.5", "1.2e-7"],
    ),
    "units": (series([NOON, DAY], pl.Datetime("ms")), series([NOON, DAY], pl.Datetime("ns")), None),
    "zones": (
        series([NOON.replace(tzinfo=UTC)], pl.Datetime("us", "UTC")),
        series([NOON.replace(tzinfo=UTC).astimezone(VIENNA)], pl.Datetime("ms", "Europe/Vienna")),
        ["2024-07-01 12:00:00.12+00:00"],
    ),
    "text": (["a", "b"], series(["b", "a"], pl.Categorical), ["a", "b"]),
    "enum": (["a", "b"], series(["b", "a"], pl.Enum(["b", "a"])), ["a", "b"]),
    "nothing": ([5, 7], series([None, None], pl.Null), ["5", "7"]),
}


@pytest.mark.parametrize("case", AGREE)
@pytest.mark.parametrize("turned", [False, True])
def test_types_agree(tmp_path, case, turned):
    *columns, expected = AGREE[case]
    found = prepare(tmp_path, FieldSpec("c"), *(reversed(columns) if turned else columns))
    if expected is None:
        distinct = {value for column in columns for value in pl.Series(column).to_list()}
        assert len(found) == max(len(pl.Series(column)) for column in columns) <= len(distinct)
    else:
        assert sorted(found) == sorted(expected)


@settings(max_examples=40, deadline=None)
@given(
    numbers=st.lists(
        st.one_of(st.integers(-(10**6), 10**6), st.integers(-(10**9), 10**9).map(lambda x: x / 1000)),
        min_size=1,
        max_size=20,
    )
)
def test_a_number_has_one_text(tmp_path_factory, numbers):
    """As integer, float or decimal, in whichever file."""
    folder = tmp_path_factory.mktemp("case")
    whole = [value for value in numbers if isinstance(value, int)] or [0]
    exact = [Decimal(repr(value)) for value in numbers]
    found = prepare(
        folder,
        FieldSpec("c"),
        [float(value) for value in numbers],
        series(whole, pl.Int64),
        series(exact, pl.Decimal(30, 6)),
    )
    assert len(found) == len({float(value) for value in (*numbers, *whole)})
    assert {float(text) for text in found} == {float(value) for value in (*numbers, *whole)}


def test_times_of_a_day(tmp_path):
    column = [dt.time(12, 7, 1), dt.time(12, 7, 1, 120_000)]
    assert sorted(prepare(tmp_path, FieldSpec("c"), column)) == ["12:07:01", "12:07:01.12"]


@pytest.mark.parametrize(
    ("first", "second", "types"),
    [
        (["1"], [1], ("String", "Int64")),
        (["1"], [1.0], ("String", "Float64")),
        ([True], [1], ("Boolean", "Int64")),
        ([True], ["1"], ("Boolean", "String")),
        ([DAY], [dt.date(2024, 7, 1)], ("Datetime", "Date")),
        ([DAY], series([DAY], pl.Datetime("us", "UTC")), ("Datetime", "UTC")),
        ([DAY], ["2024-07-01 00:00:00"], ("Datetime", "String")),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_types_that_cannot_agree(tmp_path, first, second, types, turned):
    columns = (second, first) if turned else (first, second)
    with pytest.raises(InputError) as error:
        prepare(tmp_path, FieldSpec("c"), *columns)
    for said in ("0.parquet", "1.parquet: column c has type", *types):
        assert said in str(error.value)
    assert not (tmp_path / "out").exists()


def test_types_agree_over_splits_too(tmp_path):
    pl.DataFrame({"y": [1], "c": [5]}).write_parquet(tmp_path / "train.parquet")
    pl.DataFrame({"y": [1], "c": ["5"]}).write_parquet(tmp_path / "test.parquet")
    files = {split: [tmp_path / f"{split}.parquet"] for split in ("train", "test")}
    with pytest.raises(InputError, match=r"test\.parquet: column c has type String, but in .*train\.parquet"):
        tables.prepare(TableSpec("t", "y", (FieldSpec("c"),)), files, tmp_path / "out")


def test_text_files_keep_their_text(tmp_path):
    (tmp_path / "a.csv").write_text("y,c\n1,5\n1,5.0\n1,05\n1,nan\n", encoding="utf-8")
    pl.DataFrame({"y": [1, 1], "c": [5.0, 6.0]}).write_parquet(tmp_path / "b.parquet")
    files = [tmp_path / "a.csv", tmp_path / "b.parquet"]
    tables.prepare(TableSpec("t", "y", (FieldSpec("c"),)), {"train": files, "test": files}, tmp_path / "out")
    assert words(tmp_path / "out") == ["5", "05", "5.0", "6", "nan"]


@pytest.mark.parametrize("column", [[-1.0, 2.5, 3.0, None], [-1, 3, 3], [[-1.0, 3.0], [2.5]]])
def test_missing_and_fill_are_values_of_a_column_of_numbers(tmp_path, column):
    """However they are written: the text of -1.0 is -1."""
    multi = isinstance(column[0], list)
    field = MULTI if multi else FieldSpec("c", fill="7.0")
    found = prepare(tmp_path, dataclasses.replace(field, missing=("", "-1.0", "NA")), column)
    assert "-1" not in found
    assert multi or "7" in found


@pytest.mark.parametrize(
    ("column", "missing", "expected"),
    [
        ([2.5, None, float("nan")], "-1", ["2.5"]),
        ([3, None, None], "-1", ["3"]),
        (["a", None, "-1"], "-1", ["a"]),
        ([True, None, False], "false", ["1"]),
        ([2**60 + 1, 2**60, 2**60], str(2**60 + 1), [str(2**60)]),
        (series([Decimal("0.10"), Decimal("7.00")], pl.Decimal(9, 2)), "0.1", ["7"]),
    ],
)
def test_null_is_missing_whatever_texts_are(tmp_path, column, missing, expected):
    """And a text that is missing is the value that it means, to the last digit."""
    assert prepare(tmp_path, FieldSpec("c", missing=(missing,)), column) == expected


def test_null_is_missing_in_a_numeric_field_too(tmp_path):
    field = FieldSpec("c", "numeric", missing=("-1",), fill="9")
    assert prepare(tmp_path, field, [2.5, None, float("nan")]) == ["4", "0"]


@pytest.mark.parametrize(
    ("column", "fill", "expected"),
    [([True, None], "true", ["1"]), ([2**60, None], str(2**60 + 1), [str(2**60), str(2**60 + 1)])],
)
def test_fill_is_a_value_of_the_column(tmp_path, column, fill, expected):
    assert prepare(tmp_path, FieldSpec("c", fill=fill), column) == expected


# --- structure


@pytest.mark.parametrize("field", [FieldSpec("c"), FieldSpec("c", "numeric"), MULTI])
@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pl.Series([{"a": 1}]), "Struct"),
        (series([[1, 2]], pl.Array(pl.Int64, 2)), "Array"),
        ([[[1]]], "List(List(Int64))"),
        (pl.Series([[{"a": 1}]]), "List(Struct"),
        ([[b"a"]], "List(Binary)"),
        ([dt.timedelta(1)], "Duration"),
        ([b"a"], "Binary"),
    ],
)
def test_types_that_no_field_can_be(tmp_path, field, column, shown):
    with pytest.raises(InputError) as error:
        prepare(tmp_path, field, column)
    assert f"0.parquet: column c has type {shown}" in str(error.value)
    assert "which a field cannot be; " in str(error.value)
    assert "damaged" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("field", [FieldSpec("c"), FieldSpec("c", "numeric")])
@pytest.mark.parametrize("column", [[["a"]], [[1, 2]], series([[], []], pl.List(pl.Null))])
def test_a_list_needs_a_multi_valued_field(tmp_path, field, column):
    with pytest.raises(InputError, match=r"column c has type List\(.*\), a list, .* declared multi"):
        prepare(tmp_path, field, column)


def test_a_label_is_no_list(tmp_path):
    pl.DataFrame({"y": [[1]], "c": ["a"]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"column y has type List\(Int64\), a list"):
        tables.prepare(TableSpec("t", "y", (FieldSpec("c"),)), [tmp_path / "a.parquet"], tmp_path / "out")


def test_a_list_is_not_split(tmp_path):
    """Elements may hold the separator."""
    found = prepare(tmp_path, MULTI, [["a^b", "c"], ["a", "b"], None, ["", None, "a^b"]])
    assert sorted(found) == ["a", "a^b", "b", "c"]
    assert found[0] == "a^b"


def test_lists_of_numbers(tmp_path):
    found = prepare(tmp_path, MULTI, [[1.0, 2.5, float("nan")], None], [[1], [1, None]])
    assert found == ["1", "2.5"]


def test_single_values_in_a_multi_valued_field(tmp_path):
    """Text is split, a number or a date is not."""
    assert prepare(tmp_path, MULTI, ["a^b", "b"], [["b", "a^b"], []]) == ["b", "a", "a^b"]
    (tmp_path / "n").mkdir()
    field = FieldSpec("c", "multi", max_len=3, separator=".")
    assert prepare(tmp_path / "n", field, [2.5, 4.0, None]) == ["2.5", "4"]


@pytest.mark.parametrize("name", ["*", "^x$", "^.*$", "row", "0", "label", "a b", "[c]"])
def test_names_are_names(tmp_path, name):
    column = {"y": [1, 1], "x": ["u", "v"], name: ["a", "b"]}
    pl.DataFrame(column).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame(column).write_csv(tmp_path / "b.csv")
    spec = TableSpec("t", "y", (FieldSpec(name), FieldSpec("x")))
    for file in ("a.parquet", "b.csv"):
        files = {"train": [tmp_path / file], "test": [tmp_path / file]}
        tables.prepare(spec, files, tmp_path / "out")
        assert words(tmp_path / "out") == ["a", "b", "u", "v"]


def test_a_multi_valued_field_whose_name_is_a_pattern(tmp_path):
    assert prepare(tmp_path, FieldSpec("^x$", "multi", max_len=2), [["a"], ["b", "a"]], name="^x$") == [
        "a",
        "b",
    ]
