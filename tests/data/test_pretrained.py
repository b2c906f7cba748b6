"""Vectors of a file, laid out by a field's vocabulary."""

import hashlib
import json

import numpy as np
import polars as pl
import pytest
from absl import flags
from absl.testing import flagsaver
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.cli import prepare as prepare_command
from ektf_jax.data import custom, encoded, tables
from ektf_jax.data.schema import Schema
from ektf_jax.data.spec import FieldSpec, TableSpec, spec_to_json
from ektf_jax.errors import InputError
from tests.data.test_custom import EXAMPLE, words

SPEC = TableSpec(
    "t",
    "y",
    (
        FieldSpec("a"),
        FieldSpec("b", pretrained="v.parquet"),
        FieldSpec("c", "multi", separator="|", max_len=2, pretrained="v.parquet", frozen=False),
    ),
)
ROWS = pl.DataFrame(
    {"y": [0, 1, 0], "a": ["x", "x", "z"], "b": ["2", "7", "2"], "c": ["7|9", "", "2"]},
    schema_overrides={"y": pl.Int64},
)


def prepare(directory, vectors, spec=SPEC, rows=ROWS):
    vectors.write_parquet(directory / "v.parquet")
    frames = {"train": rows, "valid": rows, "test": rows}
    return tables.encode(spec, frames, directory / "out", {"spec": spec_to_json(spec)}, raw=directory)


def table(values, vectors, dtype=None):
    return pl.DataFrame({"other": 1, "value": values, "vector": pl.Series(vectors, dtype=dtype)})


GOOD = table([2, 9, 4], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


def test_vectors_lie_in_the_order_of_the_ids(tmp_path):
    schema = prepare(tmp_path, GOOD)
    assert [(field.pretrained, field.frozen) for field in schema.fields] == [
        (None, True),
        (2, True),
        (2, False),
    ]
    assert schema.files[-2:] == ("vectors/1.npy", "vectors/2.npy")
    found = encoded.open_vectors(tmp_path / "out", schema)
    words = pl.read_parquet(tmp_path / "out" / "vocabulary.parquet")
    vector = {"2": [1, 2], "9": [3, 4]}
    for field, vectors in zip(schema.fields[1:], found, strict=True):
        known = words.filter(pl.col("field") == field.name)["value"]
        assert len(vectors) == field.vocab_size == len(known) + 2
        expected = [[0, 0], *(vector.get(value, [0, 0]) for value in known), [0, 0]]
        np.testing.assert_array_equal(vectors, expected)
        assert vectors.dtype == np.float32


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_vocabulary_and_file_agree_with_a_dict(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("any")
    texts = st.sampled_from(["", "a", "b", "^", "1", "1.0", "ü", "a|b", "NaN"])
    values = data.draw(st.lists(texts, min_size=1, max_size=9))
    given_values = data.draw(st.lists(texts, min_size=1, unique=True))
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(given_values), 3))
    spec = TableSpec("t", "y", (FieldSpec("b", missing=(), pretrained="v.parquet"),))
    rows = pl.DataFrame({"y": [0] * len(values), "b": values})
    file = table(given_values, vectors.tolist())
    if not set(values) & set(given_values):
        with pytest.raises(InputError, match="has none of the"):
            prepare(directory, file, spec, rows)
        return
    schema = prepare(directory, file, spec, rows)
    (found,) = encoded.open_vectors(directory / "out", schema)
    known = pl.read_parquet(directory / "out" / "vocabulary.parquet")["value"]
    expected = dict(zip(given_values, vectors.astype(np.float32), strict=True))
    for value, vector in zip(known, found[1:-1], strict=True):
        np.testing.assert_array_equal(vector, expected.get(value, np.zeros(3)))
    assert not found[[0, -1]].any()


@pytest.mark.parametrize(
    ("values", "vectors", "dtype"),
    [
        (["2", "9"], [[1, 2], [3, 4]], pl.List(pl.Int16)),
        ([2.0, 9.0], [[1, 2], [3, 4]], pl.Array(pl.Float32, 2)),
        ([9, 2], [[3.0, 4.0], [1.0, 2.0]], pl.List(pl.Float64)),
    ],
)
def test_types_and_the_order_of_rows_do_not_matter(tmp_path, values, vectors, dtype):
    first = prepare(tmp_path, GOOD)
    (tmp_path / "again").mkdir()
    again = prepare(tmp_path / "again", table(values, vectors, dtype))
    assert again.fields == first.fields
    assert again.source == first.source
    for ours, theirs in zip(
        *(encoded.open_vectors(where / "out", first) for where in (tmp_path, tmp_path / "again")), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (GOOD.drop("value"), r"v\.parquet: lacks the columns value; it must have value, as the raw"),
        (GOOD.drop("vector", "value"), r"lacks the columns value, vector"),
        (GOOD[:0], "has no rows"),
        (
            table([2, 9], [[1.0, 2.0], [1.0]]),
            "row 2: vector has 1 numbers and that of row 1 2; all must have",
        ),
        (table([2, 9], [[1.0], None]), "row 2: vector has None numbers and that of row 1 1"),
        (table([2, 9], [[], []], pl.List(pl.Float64)), "vector has 0 numbers; it must have from 1 to 65536"),
        (
            table([2, 9], [[1.0, 2.0], [3.0, float("nan")]]),
            "row 2: number 1 of vector is nan; it must be finite",
        ),
        (table([2, 9], [[1.0, float("-inf")], [3.0, 1.0]]), "row 1: number 1 of vector is -inf"),
        (table([2, 9], [[1.0, 1e39], [3.0, 1.0]]), r"row 1: number 1 of vector is 1e\+39; .* as float32 too"),
        (table([2, 9], [[1.0, None], [3.0, 1.0]]), "row 1: number 1 of vector is nan"),
        (table([2, 9], ["a", "b"]), "column vector has type String; it must be a list of numbers"),
        (table([2, 9], [["a"], ["b"]]), r"column vector has type List\(String\); it must be a list"),
        (table([2, 9, 2], [[1.0], [2.0], [3.0]]), "rows 1 and 3: value is '2' twice; give it one vector"),
        (table([2.0, 9, float("nan")], [[1.0], [2.0], [3.0]]), "row 3: value is missing; give each row one"),
        (table([[2], [9]], [[1.0], [2.0]]), "column value has type List"),
        (
            table([20, 90], [[1.0], [2.0]]),
            "has none of the 2 values of field b, such as '2'; its column value",
        ),
    ],
)
def test_bad_files_are_named(tmp_path, vectors, said):
    with pytest.raises(InputError, match=said) as error:
        prepare(tmp_path, vectors)
    assert "v.parquet" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_no_parquet(tmp_path):
    with pytest.raises(InputError, match=r"v\.parquet: cannot be read .*No such file"):
        tables.encode(
            SPEC, dict.fromkeys(("train", "valid", "test"), ROWS), tmp_path / "out", {}, raw=tmp_path
        )
    (tmp_path / "v.parquet").write_text("value,vector\n")
    with pytest.raises(
        InputError, match=r"v\.parquet: cannot be read .*must be Parquet with columns value and"
    ):
        tables.encode(
            SPEC, dict.fromkeys(("train", "valid", "test"), ROWS), tmp_path / "out", {}, raw=tmp_path
        )
    assert not (tmp_path / "out").exists()


def described(directory, vectors):
    for name, text in EXAMPLE.items():
        (directory / name).write_text(text)
    vectors.write_parquet(directory / "items.parquet")
    return custom.prepare(directory / "described.yaml", directory, directory / "out")


ITEMS = table(["i1", "i2", "i4", "i5"], np.random.default_rng(0).normal(size=(4, 5)).tolist())


def test_the_vectors_of_the_docs(tmp_path):
    schema = described(tmp_path, ITEMS)
    assert [field.pretrained for field in schema.fields] == [None, 5, 5]
    first = [np.load(tmp_path / "out" / name).tobytes() for name in schema.files[-2:]]
    assert [hashlib.sha256(b).hexdigest() for b in first] == [
        json.loads((tmp_path / "out" / "schema.json").read_text())["arrays"][name]
        for name in schema.files[-2:]
    ]
    assert [entry["name"] for entry in schema.source["files"]] == ["viewed.csv", "items.parquet"]
    assert str(tmp_path) not in (tmp_path / "out" / "schema.json").read_text()
    stamp = (tmp_path / "out" / "schema.json").stat()
    described(tmp_path, ITEMS)
    assert (tmp_path / "out" / "schema.json").stat() == stamp  # up to date
    other = described(tmp_path, ITEMS.with_columns(vector=pl.col("vector").list.reverse()))
    assert other.fingerprint != schema.fingerprint
    assert np.load(tmp_path / "out" / schema.files[-1]).tobytes() != first[-1]


def test_the_command_says_how_many_values_have_one(tmp_path, capsys):
    described(tmp_path, ITEMS)
    with flagsaver.flagsaver():
        flags.FLAGS.mark_as_parsed()
        settings = {"dataset": "custom", "raw": tmp_path, "out": tmp_path / "out"}
        for name, value in (settings | {"schema": tmp_path / "described.yaml"}).items():
            setattr(flags.FLAGS, name, str(value))
        prepare_command.main(["prepare"])
    said = capsys.readouterr().out
    schema = encoded.open_schema(tmp_path / "out")
    for field in schema.fields[1:]:
        known = set(words(tmp_path / "out", field.name))
        has = len(known & set(ITEMS["value"]))
        assert 0 < has < len(known) == field.vocab_size - 2
        assert (
            f"{field.name}: {has} of {len(known)} values ({has / len(known):.1%}) have vectors, of 5" in said
        )


def test_damaged_vectors_are_found(tmp_path):
    schema = described(tmp_path, ITEMS)
    path = tmp_path / "out" / schema.files[-1]
    vectors = np.load(path)
    for change, said in (
        (1, "vectors/2.npy: its rows have the SHA-256"),
        (np.nan, "row 1, number 0: value nan"),
    ):
        changed = vectors.copy()
        changed[1, 0] += change
        np.save(path, changed)
        with pytest.raises(InputError, match=said):
            encoded.open_dataset(tmp_path / "out")
    np.save(path, vectors[:, :4])
    with pytest.raises(InputError, match=r"has shape .* the schema says"):
        encoded.open_dataset(tmp_path / "out")
    path.unlink()
    with pytest.raises(InputError, match=r"vectors/2\.npy: missing"):
        encoded.open_dataset(tmp_path / "out")
    described(tmp_path, ITEMS)  # which is no more up to date
    encoded.open_dataset(tmp_path / "out")


def test_a_schema_says_it(tmp_path):
    schema = described(tmp_path, ITEMS)
    assert Schema.from_json(schema.to_json()) == schema
    for key, value, said in (
        ("pretrained", 0, "pretrained is 0, less than 1"),
        ("frozen", "no", "frozen is 'no', not true or false"),
    ):
        document = json.loads(schema.to_json())
        document["fields"][1][key] = value
        with pytest.raises(InputError, match=said):
            Schema.from_json(json.dumps(document))
