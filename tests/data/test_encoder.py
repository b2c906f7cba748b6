"""Raw rows get the ids that preparing their dataset gave them, and rows that it never saw the right ones."""

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data import criteo, encoded, generators, ipinyou, movielens, synthetic, tables
from ektf_jax.data.encoder import of_dataset, read, write
from ektf_jax.data.schema import Field, Schema
from ektf_jax.data.spec import FieldSpec, TableSpec, spec_to_json
from ektf_jax.errors import InputError

SPEC = TableSpec(
    "shop",
    "click",
    (
        FieldSpec("user"),
        FieldSpec("price", "numeric", missing=("", "-1"), fill="0"),
        FieldSpec("tags", "multi", separator="|", max_len=2),
        FieldSpec("city", min_count=2, missing=("", "?")),
    ),
)


@pytest.mark.parametrize(("name", "prepare"), [("criteo_x4", criteo.prepare), ("ipinyou", ipinyou.prepare)])
def test_rows_of_a_file_get_the_ids_that_preparing_it_gave_them(tmp_path, name, prepare):
    generators.write(name, tmp_path / "raw", 2000)
    prepare(tmp_path / "raw", tmp_path / "out")
    rows = pl.read_csv(tmp_path / "raw" / "test.csv", infer_schema=False)
    encoder = of_dataset(tmp_path / "out")
    expected = np.asarray(encoded.open_split(tmp_path / "out", "test").ids)
    found = encoder.frame(rows)
    np.testing.assert_array_equal(found.ids, expected)
    shuffled = rows.select(reversed(rows.columns)).drop(encoder.spec.label)
    np.testing.assert_array_equal(encoder.frame(shuffled).ids, expected)


def test_columns_that_are_derived_are_those_of_the_derived_table(tmp_path):
    """Of MovieLens-1M's own files, whose encodings hold no spec."""
    generators.write("ml1m", tmp_path / "raw", 2000)
    movielens.prepare(tmp_path / "raw", tmp_path / "out")
    encoder = of_dataset(tmp_path / "out")
    split = encoded.open_split(tmp_path / "out", "valid")
    words = {word: value for value, word in encoder.words.select("value", "id").rows()}
    genres = [[words[i] for i in row if i] for row in np.asarray(split.ids)[:, 6:].tolist()]
    rows = {
        name: [words.get(i) for i in np.asarray(split.ids)[:, at].tolist()]
        for at, name in enumerate(("UserID", "Gender", "Age", "Occupation", "MovieID", "Release"))
    }
    known = [None not in row for row in zip(*rows.values(), strict=True)]
    found = encoder.frame(pl.DataFrame(rows | {"Genres": genres})).ids
    np.testing.assert_array_equal(found[known], np.asarray(split.ids)[known])


cell = st.sampled_from(["", "a", "b", "c", "?"])
rows = st.lists(
    st.fixed_dictionaries(
        {
            "click": st.sampled_from(["0", "1"]),
            "user": cell,
            "price": st.sampled_from(["", "-1", "-1.0", "0", "3", "3.0", "1e3"]),
            "tags": st.lists(st.sampled_from(["a", "b", "c"]), max_size=3).map("|".join),
            "city": cell,
        }
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=40)
@given(train=rows, test=rows)
def test_frames_get_the_ids_of_the_dataset_of_frames(tmp_path_factory, train, test):
    directory = tmp_path_factory.mktemp("frames")
    frames = {"train": pl.DataFrame(train), "valid": pl.DataFrame(test), "test": pl.DataFrame(test)}
    tables.encode(SPEC, frames, directory / "out", {"spec": spec_to_json(SPEC)})
    found = of_dataset(directory / "out").frame({name: [row[name] for row in test] for name in test[0]})
    expected = np.asarray(encoded.open_split(directory / "out", "test").ids)
    np.testing.assert_array_equal(found.ids, expected)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    out = tmp_path_factory.mktemp("shop") / "out"
    frame = pl.DataFrame(
        {
            "click": [0, 1, 0, 1],
            "user": [1, 2, 3, 4],
            "price": [1.5, 20.0, None, 300.0],
            "tags": [["a"], ["a", "b"], ["c"], []],
            "city": ["x", "x", "y", None],
        }
    )
    tables.encode(SPEC, dict.fromkeys(("train", "valid", "test"), frame), out, {"spec": spec_to_json(SPEC)})
    return of_dataset(out)


def ids_of(encoder, field, *values):
    known = {value: at for name, value, at in encoder.words.rows() if name == field}
    oov = next(one.oov for one in encoder.fields if one.name == field)
    return [known.get(value, oov) for value in values]


def test_unseen_and_missing_values_are_told_apart(encoder):
    found = encoder.frame(
        {
            "user": [1, 9, None],
            "price": [20.0, None, 7.0],
            "tags": [["b", "new", "a"], [], ["new"]],
            "city": ["x", "?", "z"],
        }
    )
    assert found.unseen == {"user": 1, "price": 1, "tags": 2, "city": 1}
    assert found.ids[:, 0].tolist() == ids_of(encoder, "user", "1", "9", None)
    assert found.ids[:, 1].tolist() == ids_of(encoder, "price", "8", "0", "3")
    tags = dict(zip("ab", ids_of(encoder, "tags", "a", "b"), strict=True))
    oov = encoder.fields[2].oov
    assert found.ids[:, 2:4].tolist() == [[tags["b"], oov], [0, 0], [oov, 0]]
    assert found.ids[:, 4].tolist() == ids_of(encoder, "city", "x", None, None)


def test_values_have_one_text_whatever_their_type(encoder):
    base = {"price": ["1.5"], "tags": ["a|b"], "city": ["x"]}
    expected = encoder.frame(base | {"user": ["2"]}).ids
    for user in (2, 2.0, np.int8(2), np.float32(2)):
        assert encoder.frame(base | {"user": [user]}).ids.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ({"user": [1], "price": [1]}, r"^the rows: lack the columns tags, city; the model reads user, price"),
        (
            {"user": [1, 2], "price": ["1", "dear"], "tags": [[], []], "city": ["x", "x"]},
            r"^the rows: row 2: price is 'dear'; it must be a number",
        ),
        ({"user": [[1]], "price": [1], "tags": [[]], "city": ["x"]}, r"column user has type List\(Int64\)"),
        ({"user": [1], "price": [1, 2], "tags": [[]], "city": ["x"]}, "the rows: are no table"),
        ([[1], [2]], "the rows: lack the columns"),
    ],
)
def test_rows_that_cannot_be_encoded_are_refused(encoder, rows, match):
    with pytest.raises(InputError, match=match):
        encoder.frame(rows)


def test_no_rows_are_no_ids(encoder):
    empty = pl.DataFrame(
        schema={"user": pl.String, "price": pl.Float64, "tags": pl.List(pl.String), "city": pl.String}
    )
    found = encoder.frame(empty)
    assert found.ids.shape == (0, 5)
    assert set(found.unseen.values()) == {0}


def test_a_dataset_that_was_made_as_ids_has_no_encoder(tmp_path):
    synthetic.prepare(synthetic.SyntheticSpec(rows=200, values=(5, 4, 3)), tmp_path / "out")
    with pytest.raises(InputError, match="its rows were made as ids"):
        of_dataset(tmp_path / "out")


def test_an_encoder_is_read_as_it_was_written_and_written_to_the_same_bytes(encoder, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(encoder, tmp_path / name)
    again = read(tmp_path / "one")
    assert (again.spec, again.fields) == (encoder.spec, encoder.fields)
    assert again.words.equals(encoder.words)
    for file in ("encoder.json", "vocabulary.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("file", "content", "match"),
    [
        ("encoder.json", b"{}", r"encoder\.json: spec is missing"),
        ("encoder.json", b'{"spec": {"layout": 1}, "fields": []}', r"encoder\.json: spec is none"),
        ("encoder.json", b'{"spec": {}, "fields": [{"x": 1}]}', r"encoder\.json: fields are none"),
        ("vocabulary.parquet", b"PAR1", r"vocabulary\.parquet: cannot be read"),
    ],
)
def test_damaged_encoders_are_named(encoder, tmp_path, file, content, match):
    write(encoder, tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=match):
        read(tmp_path)


def test_types_of_another_width_unit_or_scale_give_the_ids_of_preparing(tmp_path):
    """Preparing settles the types of all its files; what it settled holds for rows that come later, too."""
    values = np.array([0.1, 0.2, 1.5, 7.0, -0.30000001192092896] * 8)
    frame = pl.DataFrame(
        {
            "y": [0, 1] * 20,
            "narrow": pl.Series(values, dtype=pl.Float32),
            "wide": values,
            "exact": pl.Series(values).round(3).cast(pl.Decimal(10, 3)),
            "time": pl.Series((values * 1000).astype(int)).cast(pl.Datetime("ms")),
            "whole": pl.Series((values * 10).astype(int), dtype=pl.Int8),
        }
    )
    spec = TableSpec("types", "y", tuple(FieldSpec(name) for name in frame.columns[1:]))
    (tmp_path / "raw").mkdir()
    files = {}
    for split in ("train", "valid", "test"):
        files[split] = [tmp_path / "raw" / f"{split}.parquet"]
        frame.write_parquet(files[split][0])
    tables.prepare(spec, files, tmp_path / "data")
    before = (tmp_path / "data" / "schema.json").stat().st_mtime_ns
    assert tables.prepare(spec, files, tmp_path / "data") == encoded.open_schema(tmp_path / "data")
    assert (tmp_path / "data" / "schema.json").stat().st_mtime_ns == before  # nothing was made again
    write(of_dataset(tmp_path / "data"), tmp_path)
    expected = np.asarray(encoded.open_dataset(tmp_path / "data", ["train"])[1]["train"].ids)
    others = frame.with_columns(
        pl.col("narrow").cast(pl.Float64),
        pl.col("exact").cast(pl.Decimal(30, 9)),
        pl.col("time").cast(pl.Datetime("ns")),
        pl.col("whole").cast(pl.Float64),
    )
    frames = dict.fromkeys(files, frame)
    tables.encode(spec, frames, tmp_path / "encoded", {"spec": spec_to_json(spec)})
    np.testing.assert_array_equal(encoded.open_split(tmp_path / "encoded", "train").ids, expected)
    for found in (of_dataset(tmp_path / "data"), read(tmp_path), of_dataset(tmp_path / "encoded")):
        for rows in (frame, others, others.with_columns(pl.col("whole").cast(pl.Int64))):
            np.testing.assert_array_equal(found.frame(rows).ids, expected)


def bucket(number: float, paper: bool) -> str:
    low = 1 if paper else int(number)
    return str(int(np.floor(np.log(number) ** 2)) if number > 2 else low)


def of_version_0_1_0(field: FieldSpec, text: str) -> str | None:
    """What that version counted for the text of a number, whose marks and fill were buckets."""
    value = None if text in field.missing else bucket(float(text), field.paper_buckets)
    return field.fill if value is None or value in field.missing else value


def dataset_of_version_0_1_0(directory, field, training, file="a.csv"):
    counted = (of_version_0_1_0(field, text) for text in training)
    words = sorted({value for value in counted if value is not None})
    ids = range(1, len(words) + 1)
    spec = TableSpec("shop", "click", (field,))
    source = {"encoder": 1, "spec": spec_to_json(spec), "files": [{"name": file}]}
    fields = (Field(field.name, len(words) + 2, 0),)
    directory.mkdir()
    schema = Schema("shop", fields, {"train": len(training), "valid": 1, "test": 1}, source)
    (directory / "schema.json").write_text(schema.to_json())
    frame = {"field": [field.name] * len(words), "value": words, "id": pl.Series(list(ids), dtype=pl.Int32)}
    pl.DataFrame(frame, schema_overrides={"field": pl.String, "value": pl.String}).write_parquet(
        directory / "vocabulary.parquet"
    )
    return dict(zip(words, ids, strict=True)), len(words) + 1


mark = st.sampled_from(["", "?", "0", "1", "-1", "2", "3", "5", "5.0", "0.5"])
PRICES = ["0", "0.0", "0.5", "-0.5", "1", "-1", "-1.5", "2", "2.5", "3", "4.5", "5", "5.0", "10", "100"]


@settings(max_examples=100, deadline=None)
@given(
    st.sets(mark, min_size=1, max_size=3),
    st.sampled_from([None, "0", "1", "-1", "2", "3", "10", "0.5"]),
    st.booleans(),
    st.lists(st.sampled_from(PRICES), min_size=1, max_size=8),
)
def test_numbers_of_version_0_1_0_get_its_ids_or_are_refused(
    tmp_path_factory, missing, fill, paper, training
):
    field = FieldSpec("price", "numeric", 1, tuple(missing), fill, paper_buckets=paper)
    directory = tmp_path_factory.mktemp("old") / "data"
    known, oov = dataset_of_version_0_1_0(directory, field, training)
    prices = [text for text in missing if text in ("", "?")] + PRICES
    try:
        encoder = of_dataset(directory)
    except InputError as refused:
        message = str(refused)
    else:
        expected = [known.get(of_version_0_1_0(field, text), oov) for text in prices]
        assert encoder.frame({"price": prices}).ids[:, 0].tolist() == expected
        return
    assert re.search(r"is of version 0\.1\.0, which took the missing = .* of price", message)


@pytest.mark.parametrize(
    ("missing", "fill", "paper"),
    [(("", "0"), None, False), (("",), "0", False), (("",), "1", True), (("", "NULL", "-1"), "-1", False)],
)
def test_what_means_the_same_as_buckets_and_as_numbers_is_not_refused(tmp_path, missing, fill, paper):
    """Criteo's and KDD12's fields among them."""
    field = FieldSpec("price", "numeric", 1, missing, fill, paper_buckets=paper)
    known, _ = dataset_of_version_0_1_0(tmp_path / "data", field, ["100"])
    assert of_dataset(tmp_path / "data").frame({"price": ["100"]}).ids.tolist() == [[known["21"]]]


def test_a_dataset_that_version_0_1_0_made_of_parquet_is_refused(tmp_path):
    dataset_of_version_0_1_0(tmp_path / "data", FieldSpec("price", "numeric"), ["1"], "part-0.parquet")
    with pytest.raises(InputError, match=r"schema\.json: is of version 0\.1\.0.*part-0\.parquet.*prepare"):
        of_dataset(tmp_path / "data")
